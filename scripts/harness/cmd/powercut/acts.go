package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"yunbox.local/scripts/harness/internal/box"
)

// kept is the state of what is there and has no other.
const kept = "kept"

// signIns on one box are enough: of a hundred sessions of a person the box ends the
// one that was used least recently.
const signIns = 90

// admit signs in and out, and makes and revokes app tokens.
func (s *boxServer) admit(ctx context.Context, hs *histories, pos func() int) {
	for ctx.Err() == nil {
		n := hs.signIn()
		if n >= signIns {
			return
		}
		before := pos()
		var session struct{ Token string }
		if err := s.API(ctx, http.MethodPost, "/v1/session", map[string]string{"username": "owner", "password": password}, &session); err == nil {
			h := hs.of("session:" + session.Token)
			h.add(act{kept, before, pos()})
			if n%3 > 0 {
				done := h.begin(absent, pos)
				if s.As(session.Token).API(ctx, http.MethodDelete, "/v1/session", nil, nil) == nil {
					done()
				}
			}
		}
		before = pos()
		var app struct{ ID string }
		if err := s.API(ctx, http.MethodPost, "/v1/tokens", map[string]string{"name": fmt.Sprint("app ", n), "scope": "files"}, &app); err == nil {
			h := hs.of("token:" + app.ID)
			h.add(act{kept, before, pos()})
			if n%3 > 0 {
				if done := h.begin(absent, pos); s.API(ctx, http.MethodDelete, "/v1/tokens/"+app.ID, nil, nil) == nil {
					done()
				}
			}
		}
		pause(ctx, 150*time.Millisecond)
	}
}

// rows sends many files in each request. Each that was acknowledged counts, whatever
// becomes of its request.
func (s *boxServer) rows(ctx context.Context, rng *rand.Rand, hs *histories, pos func() int) {
	const way = "many files"
	for n := 0; ctx.Err() == nil; n++ {
		var files []box.Sending
		var done []func()
		for i := range 1 + rng.IntN(20) {
			content, sum := randomContent(rng)
			f := box.Sending{Path: s.folder + fmt.Sprintf("many/%04d %02d.jpg", n, i), Data: content, Size: int64(len(content)), Sum: sum}
			files, done = append(files, f), append(done, hs.file(way, f.Path).begin(sum, pos))
		}
		err := s.PutMany(ctx, files, func(n int) {
			done[n]()
			hs.acked(way)
		})
		if err != nil && ctx.Err() == nil {
			pause(ctx, 20*time.Millisecond)
		}
	}
}

// purge deletes files for good.
func (s *boxServer) purge(ctx context.Context, rng *rand.Rand, hs *histories, pos func() int) {
	for n := 0; ctx.Err() == nil; n++ {
		path := s.folder + fmt.Sprintf("for good/%04d.jpg", n)
		content, sum := randomContent(rng)
		before := pos()
		id, err := s.PutItem(ctx, "other", path, bytes.NewReader(content), int64(len(content)), sum)
		if err == nil {
			h := hs.of("item:" + id)
			h.add(act{kept, before, pos()})
			if n%4 > 0 && s.remove(ctx, path) == nil {
				if done := h.begin(absent, pos); s.API(ctx, http.MethodDelete, "/v1/items/"+id, nil, nil) == nil {
					done()
				}
			}
		}
		pause(ctx, 30*time.Millisecond)
	}
}

// tokens notes which app tokens there are.
func (s *boxServer) tokens(ctx context.Context, states map[string]string) error {
	var list struct{ Tokens []struct{ ID string } }
	if err := s.API(ctx, http.MethodGet, "/v1/tokens", nil, &list); err != nil {
		return err
	}
	for _, t := range list.Tokens {
		states["token:"+t.ID] = kept
	}
	return nil
}

// present asks for a session or an item. Of many tokens that are not valid the box
// says at some time that they are too many, and of a good one never.
func (s *boxServer) present(ctx context.Context, kind, name string) string {
	asked, route := s.Box, "/v1/items/"+name
	if kind == "session" {
		asked, route = s.As(name), "/v1/me"
	}
	switch err := asked.API(ctx, http.MethodGet, route, nil, nil); {
	case err == nil:
		return kept
	case kind == "item" && box.IsStatus(err, http.StatusNotFound),
		kind == "session" && (box.IsStatus(err, http.StatusUnauthorized) || box.IsStatus(err, http.StatusTooManyRequests)):
		return absent
	default:
		return "error: " + err.Error()
	}
}

func (s *boxServer) observe(ctx context.Context, keys []string) map[string]string {
	var files, others, erasing []string
	for _, key := range keys {
		if strings.HasPrefix(key, "file:") {
			files = append(files, key)
		} else if kind, _, _ := strings.Cut(key, ":"); kind == "erasure" || kind == "cancellation" || kind == "stays" {
			erasing = append(erasing, key)
		} else {
			others = append(others, key)
		}
	}
	states := observeFiles(files, func(path string) (string, error) { return s.Hash(ctx, path) })
	s.erased(ctx, erasing, states)
	known, err := s.decisions(ctx)
	if err == nil {
		err = s.tokens(ctx, known)
	}
	for _, key := range others {
		kind, name, _ := strings.Cut(key, ":")
		if kind == "session" || kind == "item" {
			states[key] = s.present(ctx, kind, name)
			continue
		}
		state, ok := known[key]
		switch {
		case ok:
			states[key] = state
		case err != nil:
			states[key] = "error: " + err.Error()
		default:
			states[key] = absent
		}
	}
	return states
}

func (s *boxServer) decisions(ctx context.Context) (map[string]string, error) {
	states := map[string]string{}
	var me struct{ Username string }
	if err := s.API(ctx, http.MethodGet, "/v1/me", nil, &me); err != nil {
		return states, err
	}
	states["bound"] = "yes"
	var consents struct {
		Consents []struct{ Purpose, State string }
	}
	if err := s.API(ctx, http.MethodGet, "/v1/consents", nil, &consents); err != nil {
		return states, err
	}
	for _, c := range consents.Consents {
		if c.State != "never" {
			states["consent:"+c.Purpose] = c.State
		}
	}
	for cursor := "0"; cursor != ""; {
		var receipts struct {
			Receipts []any
			Next     string
		}
		if err := s.API(ctx, http.MethodGet, "/v1/consents/receipts?cursor="+cursor, nil, &receipts); err != nil {
			return states, err
		}
		for _, r := range receipts.Receipts {
			states["receipt:"+canonical(r)] = kept
		}
		cursor = receipts.Next
	}
	return states, nil
}
