package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/signed"
)

// verifyFiles is how many files one question is about: the box's limit is 1,000.
const verifyFiles = 500

// What verify says of a file, besides the box's own words trash, damaged and missing.
const (
	resultSafe    = "safe"    // on the box's disk, as the box signed
	resultUnknown = "unknown" // not on the box
)

type verifyOptions struct {
	read     bool
	keep     string // file that receipts are added to
	receipts string // file with receipts to check against, instead of asking
	exclude  []string
	retryFor time.Duration
}

func (a *app) verifyCommand() *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{
		Use: "verify DIR", Short: "Check that every file of a folder is safe on the box, with proof", Args: cobra.ExactArgs(1),
		Long: `verify reads every file below DIR and asks the box which of these contents lie on
its disk. The box answers with receipts that it signs; their signature is checked
against the key that is pinned for the box, before anything is believed.

With --read the box reads each content back from its disk now and compares it, as
slowly as its disk is. With --keep the receipts are added to a file, one a line, as
proof for whoever frees the space. With --receipts a folder is checked against such
a file instead, and no box is asked: the key is that of --fingerprint, or the one
saved by login.

With --json each line on standard output is an event:
  {"event":"file","path":…,"sha256":…,"size":…,"result":"safe|unknown|trash|damaged|missing|failed","time":…,"read_back":…,"reason":…}
  {"event":"done","files":…,"safe":…,"not_safe":…,"bytes":…,"receipts":…}
trash is what you deleted from the box: it is there still, and not for long.

Exit codes: 0 every file is safe, 3 some are not, 1 a receipt is not genuine; the others
are those of "yunboxctl --help".`,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, p := range o.exclude {
				if _, err := path.Match(p, ""); err != nil {
					return usagef("--exclude %q is no pattern", p)
				}
			}
			if o.receipts != "" && (o.read || o.keep != "") {
				return usagef("--receipts asks no box: --read and --keep do not go with it")
			}
			return a.verify(cmd.Context(), args[0], o)
		},
	}
	f := c.Flags()
	f.BoolVar(&o.read, "read", false, "have the box read the bytes back now")
	f.StringVar(&o.keep, "keep", "", "add the receipts to this file")
	f.StringVar(&o.receipts, "receipts", "", "check against the receipts in this file, without asking the box")
	f.StringArrayVar(&o.exclude, "exclude", nil, "leave out names, or paths below DIR, that match this pattern (repeatable)")
	f.DurationVar(&o.retryFor, "retry-for", time.Minute, "go on for this long without an answer before giving up")
	return c
}

// verifiedItem is what the box says of one content.
type verifiedItem struct {
	SHA256   string     `json:"sha256"`
	State    string     `json:"state"`
	Checked  string     `json:"checked"`
	ReadBack *time.Time `json:"read_back"`

	when time.Time // of its receipt
}

// signedBy is the box that signed something.
type signedBy struct {
	Key  string `json:"key"`  // fingerprint
	SPKI string `json:"spki"` // the public key, in base64
}

// storageReceipt is the payload of a receipt: see StorageReceipt in the box's OpenAPI
// document.
type storageReceipt struct {
	Schema   string         `json:"schema_version"`
	Box      signedBy       `json:"box"`
	Time     time.Time      `json:"time"`
	Complete bool           `json:"complete"`
	Items    []verifiedItem `json:"items"`
}

func notGenuine(detail string) error {
	return &problem.Error{
		Kind: problem.Forbidden, Op: "verify", Title: "A receipt is not genuine", Detail: detail,
		Hint: "Believe nothing of it, and delete no file for it. Is the fingerprint that of the right box?",
	}
}

// openReceipt returns what a receipt says, whose signature openSigned checks.
func openReceipt(jws string, known pin) (storageReceipt, error) {
	var r storageReceipt
	payload, err := openSigned(jws, "yunbox-storage-receipt+jws", known)
	if err != nil {
		return r, err
	}
	if json.Unmarshal(payload, &r) != nil || r.Schema != "yunbox-storage-receipt/1" {
		return r, notGenuine("It has a form that this version cannot read.")
	}
	for i := range r.Items {
		r.Items[i].when = r.Time
	}
	return r, nil
}

// openSigned checks the signature of what a box signed (RFC 7515, compact form, ES256)
// against a pinned key and returns what was signed, which names the key under "box".
// The zero pin, of a box on this machine that is spoken to without encryption, takes
// the key that is named.
func openSigned(jws, typ string, known pin) ([]byte, error) {
	return openSignedBy(jws, typ, boxKey{pin: known})
}

func openSignedBy(jws, typ string, known boxKey) ([]byte, error) {
	var by struct {
		Box        signedBy `json:"box"`
		Controller signedBy `json:"pii_controller"`
	}
	payload, err := signed.Payload(jws)
	if err != nil || json.Unmarshal(payload, &by) != nil {
		return nil, notGenuine("It has a form that this version cannot read.")
	}
	if by.Box == (signedBy{}) {
		by.Box = by.Controller
	}
	spki, err := base64.StdEncoding.DecodeString(by.Box.SPKI)
	if by.Box.SPKI == "" {
		if spki = known.spki; spki == nil && by.Box.Key == known.pin.String() {
			return nil, &problem.Error{Kind: problem.Invalid, Op: "verify", Title: "This document does not name the key that it is signed with",
				Detail: "It is from one of the first versions of the box, and the fingerprint is not enough to check it.", Hint: "Give the box's certificate instead, which is at /ca.crt: --key ca.crt."}
		}
	}
	signer := pin(sha256.Sum256(spki))
	if err != nil || signer.String() != by.Box.Key || known.pin != (pin{}) && signer != known.pin {
		return nil, notGenuine("It was made with another key than that of the box.")
	}
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, notGenuine("Its key is of another kind.")
	}
	payload, err = signed.Verify(key, typ, jws)
	switch {
	case errors.Is(err, signed.ErrKey):
		return nil, notGenuine("Its key is of another kind.")
	case errors.Is(err, signed.ErrHeader):
		return nil, notGenuine("It is signed in another way.")
	case err != nil:
		return nil, notGenuine("Its signature is wrong.")
	}
	return payload, nil
}

// verifier checks one folder.
type verifier struct {
	app  *app
	opt  verifyOptions
	root string
	ask  func(ctx context.Context, sums []string) (map[string]verifiedItem, error)

	files, safe, bytes, receipts int64
}

func (a *app) verify(ctx context.Context, dir string, o verifyOptions) error {
	root, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if info, err := os.Stat(root); err != nil || !info.IsDir() {
		return usagef("%s is not a folder that can be read", shown(dir))
	}
	v := &verifier{app: a, opt: o, root: root}
	if o.receipts != "" {
		known, err := a.knownPin()
		if err != nil {
			return err
		}
		all, err := v.load(o.receipts, known)
		if err != nil {
			return err
		}
		v.ask = func(context.Context, []string) (map[string]verifiedItem, error) { return all, nil }
	} else if v.ask, err = v.online(ctx); err != nil {
		return err
	}
	if err := v.run(ctx); err != nil {
		return err
	}
	not := v.files - v.safe
	if a.json {
		err = a.encode(a.stdout, map[string]any{"event": "done", "files": v.files, "safe": v.safe, "not_safe": not, "bytes": v.bytes, "receipts": v.receipts})
	} else if not == 0 {
		_, err = fmt.Fprintf(a.stdout, "all safe: %s, %s, as the box signed\n", plural(v.files, "file", "files"), problem.Bytes(v.bytes))
	} else {
		_, err = fmt.Fprintf(a.stdout, "NOT all safe: %d of %s\n", not, plural(v.files, "file", "files"))
	}
	if err == nil && not > 0 {
		err = &codeError{problem.ExitPartly}
	}
	return err
}

// knownPin is the key of --fingerprint, or of the box that login saved.
func (a *app) knownPin() (pin, error) {
	if a.fingerprint != "" {
		return parsePin(a.fingerprint)
	}
	p, err := a.loadProfile()
	if err != nil {
		return pin{}, err
	}
	if p.Fingerprint == "" {
		return pin{}, usagef("no key of a box is known here: pass --fingerprint, or log in first")
	}
	return parsePin(p.Fingerprint)
}

// load reads a file of receipts. Of several about one content the newest counts.
func (v *verifier) load(name string, known pin) (map[string]verifiedItem, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := make(map[string]verifiedItem)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		r, err := openReceipt(strings.TrimSpace(lines.Text()), known)
		if err != nil {
			return nil, err
		}
		v.receipts++
		for _, i := range r.Items {
			if old, ok := all[i.SHA256]; !ok || !i.when.Before(old.when) {
				all[i.SHA256] = i
			}
		}
	}
	return all, lines.Err()
}

// online returns how the box is asked.
func (v *verifier) online(ctx context.Context) (func(context.Context, []string) (map[string]verifiedItem, error), error) {
	c, err := v.app.person(ctx)
	if err != nil {
		return nil, err
	}
	p := &pusher{app: v.app, c: c, alive: &alive{patience: v.opt.retryFor}}
	return func(ctx context.Context, sums []string) (map[string]verifiedItem, error) {
		all := make(map[string]verifiedItem, len(sums))
		for len(sums) > 0 {
			var out struct{ JWS string }
			in := map[string]any{"sha256": sums, "read": v.opt.read}
			if err := p.retry(ctx, func() error { return c.call(ctx, "POST", "/v1/blobs/verify", in, &out) }); err != nil {
				return nil, err
			}
			r, err := openReceipt(out.JWS, c.pin)
			if err != nil {
				return nil, err
			}
			if len(r.Items) != len(sums) || time.Since(r.Time).Abs() > 24*time.Hour {
				return nil, notGenuine("It is not the answer to what was asked.")
			}
			if err := v.keep(out.JWS); err != nil {
				return nil, err
			}
			v.receipts++
			var rest []string
			for i, item := range r.Items {
				if item.SHA256 != sums[i] {
					return nil, notGenuine("It is not the answer to what was asked.")
				}
				all[item.SHA256] = item
				if v.opt.read && !r.Complete && item.Checked == "size" && (item.State == "stored" || item.State == "trash") {
					rest = append(rest, item.SHA256)
				}
			}
			if len(rest) == len(sums) {
				return nil, &problem.Error{Kind: problem.Internal, Op: "verify", Title: "The box does not go on reading", Hint: "Its log says more."}
			}
			sums = rest
		}
		return all, nil
	}, nil
}

func (v *verifier) keep(jws string) (err error) {
	if v.opt.keep == "" {
		return nil
	}
	f, err := os.OpenFile(v.opt.keep, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(jws + "\n")
	return errors.Join(err, f.Sync(), f.Close())
}

// A local file, with its hash or why there is none.
type verifyFile struct {
	rel, sum string
	size     int64
	err      error
}

func (v *verifier) run(ctx context.Context) error {
	var batch []*verifyFile
	flush := func() error {
		err := v.batch(ctx, batch)
		batch = nil
		return err
	}
	w := &walker{root: v.root, exclude: v.opt.exclude}
	err := w.walk(ctx, func(f walked) error {
		if errors.Is(f.err, fs.ErrNotExist) {
			return nil // it went away while we looked
		}
		e := &verifyFile{rel: f.rel, err: f.err}
		if f.info != nil {
			e.size = f.info.Size()
		}
		if batch = append(batch, e); len(batch) == verifyFiles {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

func (v *verifier) batch(ctx context.Context, batch []*verifyFile) error {
	g, hashing := errgroup.WithContext(ctx)
	g.SetLimit(min(4, runtime.NumCPU()))
	for _, e := range batch {
		if e.err != nil {
			continue
		}
		g.Go(func() error {
			sum, err := hashFile(hashing, filepath.Join(v.root, filepath.FromSlash(e.rel)))
			if hashing.Err() != nil {
				return context.Cause(hashing)
			}
			e.sum, e.err = hex.EncodeToString(sum[:]), err
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	seen := make(map[string]bool, len(batch))
	var sums []string
	for _, e := range batch {
		if e.err == nil && !seen[e.sum] {
			seen[e.sum] = true
			sums = append(sums, e.sum)
		}
	}
	found, err := v.ask(ctx, sums)
	if err != nil {
		return err
	}
	for _, e := range batch {
		if err := v.tell(e, found); err != nil {
			return err
		}
	}
	return nil
}

// tell says what became of one file.
func (v *verifier) tell(e *verifyFile, found map[string]verifiedItem) error {
	v.files++
	v.bytes += e.size
	line := map[string]any{"event": "file", "path": e.rel, "size": e.size}
	result, reason := resultUnknown, "it is not on the box"
	item, ok := found[e.sum]
	switch {
	case e.err != nil:
		result, reason = resultFailed, e.err.Error()
		if pe := (*fs.PathError)(nil); errors.As(e.err, &pe) {
			reason = pe.Err.Error()
		}
	case !ok || item.State == "unknown":
	case item.State == "stored":
		result, reason = resultSafe, ""
		v.safe++
	case item.State == "trash":
		result, reason = item.State, "you deleted it from the box"
	default:
		result, reason = item.State, "the box's copy is "+item.State+": push sends it again"
	}
	if !v.app.json {
		if result != resultSafe {
			fmt.Fprintf(v.app.stderr, "not safe: %s: %s\n", shown(e.rel), reason)
		}
		return nil
	}
	line["result"] = result
	if e.err == nil {
		line["sha256"] = e.sum
	}
	if reason != "" {
		line["reason"] = reason
	}
	if ok {
		line["time"], line["read_back"] = item.when, item.ReadBack
	}
	return v.app.encode(v.app.stdout, line)
}
