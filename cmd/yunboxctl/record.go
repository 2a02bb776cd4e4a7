package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

// A mark is an entry of one of the box's records, as the box signed it.
type mark struct {
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"`
}

// standing is where one record stands, and what an earlier entry is now.
type standing struct {
	Last mark  `json:"last"`
	Then *mark `json:"then"`
}

// recordStatement is what was signed: see RecordStatement in the box's OpenAPI document.
type recordStatement struct {
	Schema  string    `json:"schema_version"`
	Time    time.Time `json:"time"`
	Audit   standing  `json:"audit"`
	Consent standing  `json:"consent"`
	Outside standing  `json:"disclosure"` // zero in what was kept of a box that did not say it yet
}

// keptRecord is what is kept of one box: its newest statement that agreed with the one
// before, and the first that did not.
type keptRecord struct {
	Statement     string `json:"statement"`               // JWS
	Contradiction string `json:"contradiction,omitempty"` // JWS
}

func openStatement(jws string, known pin) (recordStatement, error) {
	var s recordStatement
	payload, err := openSigned(jws, "yunbox-record+jws", known)
	if err != nil {
		return s, err
	}
	if json.Unmarshal(payload, &s) != nil || s.Schema != "yunbox-record/1" {
		return s, notGenuine("It has a form that this version cannot read.")
	}
	return s, nil
}

// recordsPath is the file in which statements are kept: beside the profile, so that
// they are as far from the box as whoever signs in.
func (a *app) recordsPath() (string, error) {
	path, err := a.profilePath()
	return strings.TrimSuffix(path, filepath.Ext(path)) + ".records.json", err
}

// keepRecord asks the box where its records stand, checks that they still go through
// what it said the last time, and keeps the answer. accept takes an answer that does
// not. A box that is older than the question is left alone.
func (a *app) keepRecord(ctx context.Context, c *client, accept bool) (now recordStatement, err error) {
	path, err := a.recordsPath()
	if err != nil {
		return now, err
	}
	all := make(map[string]keptRecord)
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return now, fmt.Errorf("what the box said of its records cannot be read in %s: %w", path, err)
	}
	var before recordStatement
	kept, known := all[c.pin.String()]
	if known {
		if before, err = openStatement(kept.Statement, c.pin); err != nil {
			return now, fmt.Errorf("%s was changed: %w", path, err)
		}
	}
	var out struct{ JWS string }
	query := "/v1/record?audit=" + strconv.FormatInt(before.Audit.Last.Seq, 10) + "&consent=" + strconv.FormatInt(before.Consent.Last.Seq, 10) +
		"&disclosure=" + strconv.FormatInt(before.Outside.Last.Seq, 10)
	if err := c.call(ctx, "GET", query, nil, &out); err != nil {
		if e := problem.As(err); e != nil && e.Kind == problem.NotFound {
			return now, nil
		}
		return now, err
	}
	if now, err = openStatement(out.JWS, c.pin); err != nil {
		return now, err
	}
	var rewritten error
	if known && !accept {
		rewritten = contradiction(before, now, path)
	}
	if rewritten == nil {
		kept = keptRecord{Statement: out.JWS}
	} else if kept.Contradiction == "" {
		kept.Contradiction = out.JWS
	}
	all[c.pin.String()] = kept
	if b, err = json.MarshalIndent(all, "", "  "); err == nil {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = replaceFile(path, append(b, '\n'))
		}
	}
	if rewritten != nil {
		return now, rewritten
	}
	return now, err
}

// keepRecord keeps where the box's records stand after a backup. A box that went away
// meanwhile is asked the next time. Behind something that speaks TLS in the box's place
// nothing can be kept, which is no reason to call a backup failed.
func (p *pusher) keepRecord(ctx context.Context) error {
	_, err := p.app.keepRecord(ctx, p.c, false)
	switch {
	case err == nil, passes(err), ctx.Err() != nil:
		return nil
	case problem.KindOf(err) == problem.Forbidden:
		p.app.warn("where the box's records stand could not be kept: what answers here with the pinned key is not the box itself")
		return nil
	}
	return err
}

// contradiction says how now does not continue before; nil if it does.
func contradiction(before, now recordStatement, path string) error {
	for _, r := range []struct {
		name, flag  string
		before, now standing
	}{
		{"The record of what was done on the box", "audit", before.Audit, now.Audit},
		{"The record of who consented to what", "consent", before.Consent, now.Consent},
		{"The register of what left the box", "disclosure", before.Outside, now.Outside},
	} {
		detail := ""
		switch {
		case r.before.Last.Seq == 0: // it was empty
		case r.now.Then == nil:
			detail = fmt.Sprintf("%s had %s on %s and now ends before that.", r.name, plural(r.before.Last.Seq, "entry", "entries"), before.Time.Local().Format(time.DateTime))
		case *r.now.Then != r.before.Last:
			detail = fmt.Sprintf("%s is not what it was on %s, at entry %d or before.", r.name, before.Time.Local().Format(time.DateTime), r.before.Last.Seq)
		}
		if detail != "" {
			return &problem.Error{
				Kind: problem.Damaged, Op: "audit", Title: "The box's record was rewritten", Detail: detail,
				Hint: "If the box was restored from an older copy, `yunboxctl audit keep --accept` takes its new record. " +
					"If not, somebody changed it: both signed answers are in " + path + ", and on the box `yunboxctl audit verify --head " +
					fmt.Sprintf("%s:%d:%s` checks it.", r.flag, r.before.Last.Seq, r.before.Last.Hash),
			}
		}
	}
	return nil
}

func (a *app) auditKeepCommand() *cobra.Command {
	var accept bool
	c := &cobra.Command{
		Use: "keep", Short: "Keep where the box's records stand, and check what was kept before", Args: cobra.NoArgs,
		Long: `keep asks the box where its records of acts, of consents and of what left it stand and
keeps the signed answer on this computer. From then on nobody can rewrite what was
recorded up to there without being found out, not even who has root on the box: keep
and each push ask again and compare.

What it prints is what --head of audit verify takes.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			s, err := a.keepRecord(cmd.Context(), c, accept)
			if err != nil {
				return err
			}
			if s.Schema == "" {
				return &problem.Error{Kind: problem.NotFound, Op: "audit", Title: "This box does not say where its records stand", Hint: "It is older than this yunboxctl."}
			}
			return a.print(map[string]any{"time": s.Time, "audit": s.Audit.Last, "consent": s.Consent.Last, "disclosure": s.Outside.Last}, func(w io.Writer) {
				fmt.Fprintf(w, "audit:%d:%s\nconsent:%d:%s\n", s.Audit.Last.Seq, s.Audit.Last.Hash, s.Consent.Last.Seq, s.Consent.Last.Hash)
				if s.Outside.Last.Seq > 0 {
					fmt.Fprintf(w, "disclosure:%d:%s\n", s.Outside.Last.Seq, s.Outside.Last.Hash)
				}
			})
		},
	}
	c.Flags().BoolVar(&accept, "accept", false, "take the records as they are, though they are not what they were")
	return c
}
