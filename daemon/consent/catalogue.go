package consent

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"yunbox.local/daemon/problem"
)

// Info says what a purpose means.
type Info struct {
	ID Purpose
	// Version rises when the purpose is widened; consents to an earlier version
	// are then suspended.
	Version int
	// Core is part of the service itself; every other purpose can be refused
	// without losing it.
	Core bool
	// Available: this version of the box has what the purpose is for. Others are
	// shown, and cannot be granted.
	Available bool
	// Sensitive: the data can hurt the person if it leaks.
	Sensitive bool
	// PerDevice: it can be decided for each device apart.
	PerDevice bool
	// Room is the part of the box that does it.
	Room string
	// Sources are the marks that uploads under this purpose carry.
	Sources []string
	// Clauses of the privacy policy of the box's maker that speak of it, "1.1.3".
	Clauses []string
	// Erases are the categories of data, as package rights calls them, that were made
	// for this purpose alone and are removed when it is withdrawn.
	Erases []string
	// Text is the explanation by language, "en" and "zh".
	Text map[string]Text
}

// Text explains a purpose in one language.
type Text struct {
	Title     string   `toml:"title"`     // a few words
	What      string   `toml:"what"`      // what is done, and what for
	Data      []string `toml:"data"`      // categories of data
	Retention string   `toml:"retention"` // how long it is kept
	Erased    string   `toml:"erased"`    // what is removed when one withdraws
	Processor string   `toml:"processor"` // who does it, and where
	Without   string   `toml:"without"`   // what happens if one says no
}

// Policy is a revision of the box's own privacy policy.
type Policy struct {
	Revision string
	// Modified is the day of its last change, UTC.
	Modified time.Time
	// Text is the policy by language, "en" and "zh", in Markdown.
	Text map[string]string
	// Changes tells by language, point by point, what is new since the revision before.
	Changes map[string][]string
}

// Digest returns the SHA-256 of the text in one language, 64 hex digits; receipts
// carry it.
func (p Policy) Digest(lang string) string {
	sum := sha256.Sum256([]byte(p.Text[lang]))
	return hex.EncodeToString(sum[:])
}

// Languages returns the languages in which everything is written.
func Languages() []string { return []string{"en", "zh"} }

// Purposes returns every purpose of this version of the box; see Ledger.Purposes.
func Purposes() []Info { return builtin().list() }

// Purposes returns every purpose in the order in which they are shown.
func (l *Ledger) Purposes() []Info { return l.cat.list() }

func (c *Catalogue) list() []Info {
	list := slices.Clone(c.purposes)
	for i := range list {
		list[i].Sources, list[i].Clauses, list[i].Erases = slices.Clone(list[i].Sources), slices.Clone(list[i].Clauses), slices.Clone(list[i].Erases)
		list[i].Text = maps.Clone(list[i].Text)
		for lang, t := range list[i].Text {
			t.Data = slices.Clone(t.Data)
			list[i].Text[lang] = t
		}
	}
	return list
}

// PurposeOf returns the purpose that an upload with that source needs. A source
// that nobody knows is problem.Invalid: nobody can have consented to it.
func PurposeOf(source string) (Purpose, error) { return builtin().purposeOf(source) }

func (c *Catalogue) purposeOf(source string) (Purpose, error) {
	if p, ok := c.sources[source]; ok {
		return p, nil
	}
	return "", &problem.Error{
		Kind: problem.Invalid, Op: "consent.purpose", Title: "The source is not known",
		Detail: "The box does not know where such a file would come from, so it cannot know which consent covers it.",
		Hint:   "GET /v1/purposes lists the sources; a file from anywhere else has the source other.",
	}
}

// SourcesOf returns the sources whose files rest on a purpose; none for one that nobody
// knows.
func SourcesOf(p Purpose) []string {
	list := []string{}
	for source, of := range builtin().sources {
		if of == p {
			list = append(list, source)
		}
	}
	slices.Sort(list)
	return list
}

// CurrentPolicy returns the revision that people are asked to accept by this
// version of the box; see Ledger.Policy.
func CurrentPolicy() Policy { return builtin().current().clone() }

// clone returns a copy that is the caller's to change.
func (p *Policy) clone() Policy {
	c := *p
	c.Text, c.Changes = maps.Clone(p.Text), maps.Clone(p.Changes)
	for lang, list := range c.Changes {
		c.Changes[lang] = slices.Clone(list)
	}
	return c
}

// Catalogue is what purposes and policies say. It is read once and not changed.
type Catalogue struct {
	purposes []Info // in the order of display
	index    map[Purpose]int
	sources  map[string]Purpose
	policies []Policy // oldest first, at least one
	acts     []Act    // see exceptions.toml
}

func (c *Catalogue) current() *Policy { return &c.policies[len(c.policies)-1] }

func (c *Catalogue) info(p Purpose) (*Info, error) {
	if i, ok := c.index[p]; ok {
		return &c.purposes[i], nil
	}
	return nil, &problem.Error{
		Kind: problem.NotFound, Op: "consent", Title: "There is no such purpose",
		Detail: "The box does not know that purpose.",
		Hint:   "GET /v1/purposes lists those that it knows.",
	}
}

//go:embed purposes/*.toml policy/* exceptions.toml
var files embed.FS

// builtin is the catalogue that this version of the box was built with. A test
// makes sure that it can be read.
var builtin = sync.OnceValue(func() *Catalogue {
	c, err := load(files, order())
	if err != nil {
		panic(err)
	}
	return c
})

// Source returns the files that the built-in catalogue is read from: purposes/*.toml,
// policy/ and exceptions.toml.
func Source() fs.FS { return files }

// Load reads another catalogue than the built-in one, with the same purposes.
func Load(fsys fs.FS) (*Catalogue, error) { return load(fsys, order()) }

// load reads a catalogue. It must hold exactly the purposes in want.
func load(fsys fs.FS, want []Purpose) (*Catalogue, error) {
	c := &Catalogue{index: map[Purpose]int{}, sources: map[string]Purpose{}}
	names, err := fs.Glob(fsys, "purposes/*.toml")
	if err != nil {
		return nil, fmt.Errorf("consent: %w", err)
	}
	if len(names) != len(want) {
		return nil, fmt.Errorf("consent: there are %d files of purposes for %d purposes", len(names), len(want))
	}
	for i, p := range want {
		info, err := loadPurpose(fsys, p)
		if err != nil {
			return nil, fmt.Errorf("consent: purposes/%s.toml: %w", p, err)
		}
		for _, s := range info.Sources {
			if other, taken := c.sources[s]; taken {
				return nil, fmt.Errorf("consent: the source %q belongs to both %s and %s", s, other, p)
			}
			c.sources[s] = p
		}
		c.index[p] = i
		c.purposes = append(c.purposes, info)
	}
	if c.policies, err = loadPolicies(fsys); err != nil {
		return nil, fmt.Errorf("consent: policy: %w", err)
	}
	if c.acts, err = loadActs(fsys); err != nil {
		return nil, fmt.Errorf("consent: exceptions.toml: %w", err)
	}
	return c, nil
}

func loadPurpose(fsys fs.FS, want Purpose) (Info, error) {
	var f struct {
		ID        Purpose  `toml:"id"`
		Version   int      `toml:"version"`
		Core      bool     `toml:"core"`
		Available bool     `toml:"available"`
		Sensitive bool     `toml:"sensitive"`
		PerDevice bool     `toml:"per_device"`
		Room      string   `toml:"room"`
		Sources   []string `toml:"sources"`
		Clauses   []string `toml:"clauses"`
		Erases    []string `toml:"erases"`
		EN        Text     `toml:"en"`
		ZH        Text     `toml:"zh"`
	}
	meta, err := toml.DecodeFS(fsys, "purposes/"+string(want)+".toml", &f)
	if err != nil {
		return Info{}, err
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return Info{}, fmt.Errorf("unknown key %s", unknown[0])
	}
	for _, key := range []string{"id", "version", "core", "available", "sensitive", "per_device", "room", "sources", "clauses", "erases"} {
		if !meta.IsDefined(key) {
			return Info{}, fmt.Errorf("%s is missing: it must be said, not left to a default", key)
		}
	}
	if f.ID != want || f.Version < 1 || f.Room == "" {
		return Info{}, fmt.Errorf("id %q, version %d or room %q is wrong", f.ID, f.Version, f.Room)
	}
	if len(f.Clauses) == 0 || slices.ContainsFunc(f.Clauses, func(c string) bool { return c == "" || strings.Trim(c, "0123456789.") != "" }) {
		return Info{}, fmt.Errorf("the clauses %q are none", f.Clauses)
	}
	info := Info{
		ID: f.ID, Version: f.Version, Core: f.Core, Available: f.Available, Sensitive: f.Sensitive,
		PerDevice: f.PerDevice, Room: f.Room, Sources: f.Sources, Clauses: f.Clauses, Erases: f.Erases, Text: map[string]Text{"en": f.EN, "zh": f.ZH},
	}
	for lang, t := range info.Text {
		for _, s := range append([]string{t.Title, t.What, t.Retention, t.Erased, t.Processor, t.Without}, t.Data...) {
			if strings.TrimSpace(s) == "" || s != strings.TrimSpace(s) || !utf8.ValidString(s) {
				return Info{}, fmt.Errorf("a text in %s is missing or has stray space", lang)
			}
		}
		if len(t.Data) == 0 {
			return Info{}, fmt.Errorf("no categories of data in %s", lang)
		}
	}
	if len(f.EN.Data) != len(f.ZH.Data) {
		return Info{}, errors.New("the languages do not name the same categories of data")
	}
	return info, nil
}

func loadPolicies(fsys fs.FS) ([]Policy, error) {
	var f struct {
		Revision []struct {
			ID       string              `toml:"id"`
			Modified time.Time           `toml:"modified"`
			Changes  map[string][]string `toml:"changes"`
		} `toml:"revision"`
	}
	meta, err := toml.DecodeFS(fsys, "policy/revisions.toml", &f)
	if err != nil {
		return nil, err
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, fmt.Errorf("unknown key %s", unknown[0])
	}
	if len(f.Revision) == 0 {
		return nil, errors.New("there is none")
	}
	var list []Policy
	for _, r := range f.Revision {
		y, m, d := r.Modified.Date()
		p := Policy{Revision: r.ID, Modified: time.Date(y, m, d, 0, 0, 0, 0, time.UTC), Text: map[string]string{}, Changes: r.Changes}
		if p.Revision == "" || r.Modified.IsZero() || slices.ContainsFunc(list, func(o Policy) bool { return o.Revision == p.Revision || o.Modified.After(p.Modified) }) {
			return nil, fmt.Errorf("revision %q does not follow the ones before", p.Revision)
		}
		for _, lang := range Languages() {
			text, err := fs.ReadFile(fsys, "policy/"+p.Revision+"."+lang+".md")
			if err != nil {
				return nil, err
			}
			if len(text) == 0 || !utf8.Valid(text) || len(p.Changes[lang]) == 0 || slices.Contains(p.Changes[lang], "") {
				return nil, fmt.Errorf("revision %s lacks its text or its changes in %s", p.Revision, lang)
			}
			p.Text[lang] = string(text)
		}
		if len(p.Changes) != len(Languages()) {
			return nil, fmt.Errorf("revision %s tells its changes in an unknown language", p.Revision)
		}
		if len(p.Changes["en"]) != len(p.Changes["zh"]) {
			return nil, fmt.Errorf("revision %s does not tell the same changes in each language", p.Revision)
		}
		list = append(list, p)
	}
	return list, nil
}
