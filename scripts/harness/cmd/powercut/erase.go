package main

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"yunbox.local/scripts/harness/internal/box"
)

// marks are what files of people who erase hold and are called by: "erase-0007-3fa81c02".
var marks = regexp.MustCompile(`erase-[0-9]{4}-[0-9a-f]{8}`)

// patient is how long the box may take until it says that something is gone.
const patient = time.Minute

// eraser lets people come who have erased what came in for a purpose, after they withdrew
// the consent, or whose account is removed with all of theirs. What the box said is gone
// may be in no file below its folder, whatever is cut; what they did not ask for stays.
func (s *boxServer) erase(ctx context.Context, rng *rand.Rand, hs *histories, pos func() int) {
	for n := 0; ctx.Err() == nil; n++ {
		if err := s.eraseOne(ctx, rng, hs, pos, n); err != nil {
			pause(ctx, 20*time.Millisecond) // refused, as on a full or dying disk
		}
	}
}

func (s *boxServer) eraseOne(ctx context.Context, rng *rand.Rand, hs *histories, pos func() int, n int) error {
	mark := fmt.Sprintf("erase-%04d-%08x", n, rng.Uint32())
	name, row, stays := fmt.Sprintf("leaver%d-%08x", n, rng.Uint32()), "erasure", n%2 == 0
	if !stays {
		name, row = mark, "cancellation"
	}
	// Begun before anything bears the mark: the recording may end before all of it does.
	h := hs.of(row + ":" + mark)
	there := h.begin(kept, pos)
	if err := s.Local(ctx, http.MethodPost, "/local/users", map[string]any{"username": name, "password": password}, nil); err != nil {
		return err
	}
	var session struct{ Token string }
	if err := s.API(ctx, http.MethodPost, "/v1/session", map[string]string{"username": name, "password": password}, &session); err != nil {
		return err
	}
	who := s.As(session.Token)
	revision, err := who.PolicyRevision(ctx)
	if err != nil {
		return err
	}
	for _, purpose := range []string{"storage", "qq_backup"} {
		if err := who.API(ctx, http.MethodPut, "/v1/consents/"+purpose, map[string]any{"granted": true, "policy_revision": revision}, nil); err != nil {
			return err
		}
	}
	put := func(source, path, content string) error {
		_, err := who.PutItem(ctx, source, path, strings.NewReader(content), int64(len(content)), "")
		return err
	}
	for i := range 3 {
		if err := put("qq", fmt.Sprintf("%s/%d.jpg", mark, i), fmt.Sprintf("%s %d of %s", mark, i, name)); err != nil {
			return err
		}
	}
	there()
	if stays {
		before := pos()
		if err := put("other", "stays.jpg", "stays "+name); err != nil {
			return err
		}
		hs.of("stays:" + session.Token).add(act{kept, before, pos()})
	}
	done := h.begin(absent, pos)
	if err := s.goes(ctx, who, name, stays); err != nil {
		return err
	}
	done()
	return nil
}

// goes has it erased, and returns when the box says that it is.
func (s *boxServer) goes(ctx context.Context, who *box.Box, name string, purpose bool) error {
	var gone func() (bool, error)
	if purpose {
		if err := who.API(ctx, http.MethodDelete, "/v1/consents/qq_backup", nil, nil); err != nil {
			return err
		}
		if err := who.API(ctx, http.MethodDelete, "/v1/me/data?purpose=qq_backup", nil, nil); err != nil {
			return err
		}
		gone = func() (bool, error) {
			var list struct{ Erasures []any }
			err := who.API(ctx, http.MethodGet, "/v1/me/erasures", nil, &list)
			return len(list.Erasures) == 0, err
		}
	} else {
		var out struct{ Code string }
		if err := s.Local(ctx, http.MethodPost, "/local/users/"+name+"/removal", map[string]int{"days": 0}, &out); err != nil {
			return err
		}
		gone = func() (bool, error) {
			var f struct{ State string }
			err := s.Local(ctx, http.MethodPost, "/local/deletion-receipt", map[string]string{"code": out.Code}, &f)
			return f.State == "done", err
		}
	}
	for began := time.Now(); time.Since(began) < patient; pause(ctx, 10*time.Millisecond) {
		if is, err := gone(); is || err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s is not gone after %v", name, patient)
}

// remains lists the marks that stand in any file below the box's folder, or in a name.
func (s *boxServer) remains() (found map[string]bool, err error) {
	found = map[string]bool{}
	err = filepath.WalkDir(s.State, func(name string, e fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // it came and went
		}
		if err != nil {
			return err
		}
		text := []byte(e.Name())
		if e.Type().IsRegular() {
			b, err := os.ReadFile(name)
			if err != nil && !os.IsNotExist(err) {
				return err
			}
			text = append(append(text, 0), b...)
		}
		for _, m := range marks.FindAll(text, -1) {
			found[string(m)] = true
		}
		return nil
	})
	return found, err
}

// erased tells what of those who erase is still there.
func (s *boxServer) erased(ctx context.Context, keys []string, states map[string]string) {
	found, err := s.remains()
	for _, key := range keys {
		kind, name, _ := strings.Cut(key, ":")
		switch {
		case kind == "stays":
			_, herr := s.As(name).Hash(ctx, "stays.jpg")
			if states[key] = kept; herr != nil {
				states[key] = "error: " + herr.Error()
			}
			if box.IsStatus(herr, http.StatusNotFound) || box.IsStatus(herr, http.StatusUnauthorized) {
				states[key] = absent
			}
		case err != nil:
			states[key] = "error: " + err.Error()
		case found[name]:
			states[key] = kept
		default:
			states[key] = absent
		}
	}
}
