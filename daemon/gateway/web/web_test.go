package web_test

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"yunbox.local/daemon/gateway/web"
)

func ask(t *testing.T, method, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	web.Handler().ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	var in io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		in = z
	}
	b, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var (
	assetLink = regexp.MustCompile(`/assets/[a-z]+-[a-zA-Z2-7]{8,10}\.[a-z]+`)
	// Parts of the script name each other by the folder that they are in; those that
	// are fetched later stand in import().
	partLink  = regexp.MustCompile(`"\./([a-z]+-[A-Z2-7]{8}\.js)"`)
	laterLink = regexp.MustCompile(`import\("\./([a-z]+-[A-Z2-7]{8}\.js)"\)`)
)

// assets returns the paths of all assets that the page names, itself or in its script.
func assets(t *testing.T) []string {
	t.Helper()
	all, _ := reached(t, true)
	return all
}

// later returns the assets that a first visit does not fetch.
func later(t *testing.T) map[string]bool {
	t.Helper()
	all, _ := reached(t, true)
	_, first := reached(t, false)
	late := map[string]bool{}
	for _, link := range all {
		late[link] = !first[link]
	}
	maps.DeleteFunc(late, func(_ string, is bool) bool { return !is })
	return late
}

// reached follows what the page names, with or without what it fetches later.
func reached(t *testing.T, later bool) (list []string, all map[string]bool) {
	t.Helper()
	all = map[string]bool{}
	var add func(link string)
	add = func(link string) {
		if all[link] {
			return
		}
		all[link] = true
		if !strings.HasSuffix(link, ".js") {
			return
		}
		script := body(t, ask(t, "GET", link))
		if !later {
			script = laterLink.ReplaceAllString(script, "")
		}
		for _, l := range assetLink.FindAllString(script, -1) {
			add(l)
		}
		for _, m := range partLink.FindAllStringSubmatch(script, -1) {
			add("/assets/" + m[1])
		}
	}
	for _, link := range assetLink.FindAllString(body(t, ask(t, "GET", "/")), -1) {
		add(link)
	}
	return slices.Sorted(maps.Keys(all)), all
}

func TestEveryAssetIsServedAndKeptForGood(t *testing.T) {
	links := assets(t)
	// Script and parts of it, worker, style, icon, licences; and what is fetched later.
	if late := later(t); len(links)-len(late) < 6 || len(late) < 3 {
		t.Fatalf("the page names %v, of which %v come later", links, late)
	}
	for _, link := range links {
		plain, packed := ask(t, "GET", link), ask(t, "GET", link, "Accept-Encoding", "br, gzip")
		if plain.StatusCode != 200 || packed.Header.Get("Content-Encoding") != "gzip" || plain.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: %s, %v", link, plain.Status, packed.Header)
		}
		if cc := plain.Header.Get("Cache-Control"); !strings.Contains(cc, "immutable") {
			t.Errorf("%s: Cache-Control: %s", link, cc)
		}
		if a, b := plain.Header.Get("ETag"), packed.Header.Get("ETag"); a == b {
			t.Errorf("%s: one ETag %s for two representations", link, a)
		}
		if body(t, plain) != body(t, packed) {
			t.Errorf("%s: gzip holds other bytes", link)
		}
	}
}

func TestPageIsCheckedAgainEachTime(t *testing.T) {
	first := ask(t, "GET", "/")
	if cc := first.Header.Get("Cache-Control"); cc != "no-cache" {
		t.Errorf("Cache-Control: %s", cc)
	}
	tag := first.Header.Get("ETag")
	for header, want := range map[string]int{tag: 304, "W/" + tag: 304, `"x", ` + tag: 304, "*": 304, `"x"`: 200, "": 200} {
		if r := ask(t, "GET", "/", "If-None-Match", header); r.StatusCode != want {
			t.Errorf("If-None-Match %s: %s, want %d", header, r.Status, want)
		}
	}
	head := ask(t, "HEAD", "/")
	if b := body(t, head); b != "" || head.Header.Get("Content-Length") == "0" {
		t.Errorf("HEAD: %q, %v", b, head.Header)
	}
}

func TestGzipOnlyForThoseWhoWantIt(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "gzip": true, "br, gzip;q=0.5": true, "gzip;q=0": false, "identity": false,
		"*": true, "*;q=0": false, "gzip; q=0.0, *": false, "GZIP": true, "gzip;q=x": false,
	} {
		if got := ask(t, "GET", "/", "Accept-Encoding", header).Header.Get("Content-Encoding") == "gzip"; got != want {
			t.Errorf("Accept-Encoding %q: gzip %v", header, got)
		}
	}
}

func TestOtherPathsAndMethodsAreRefused(t *testing.T) {
	for _, path := range []string{"/index.html", "/assets/", "/assets/app.js", "/dist/index.html", "/favicon.ico", "/x"} {
		if r := ask(t, "GET", path); r.StatusCode != 404 || r.Header.Get("Content-Security-Policy") != web.CSP {
			t.Errorf("%s: %s", path, r.Status)
		}
	}
	if r := ask(t, "POST", "/"); r.StatusCode != 405 || r.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %s %v", r.Status, r.Header)
	}
}

// The page works under its own strict policy and asks nobody else for anything. R01, R31, R39
func TestNothingInlineNothingFromOutside(t *testing.T) {
	for _, word := range []string{"unsafe", "http:", "https:", "*"} {
		if strings.Contains(web.CSP, word) {
			t.Errorf("the policy allows %s", word)
		}
	}
	page := body(t, ask(t, "GET", "/"))
	if m := regexp.MustCompile(`(?i)<script[^>]*>[^<]|<style|\son\w+=|\sstyle=|javascript:`).FindString(page); m != "" {
		t.Errorf("inline in the page: %s", m)
	}
	outside := regexp.MustCompile(`(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s"'` + "`" + `)]*`)
	for _, link := range append(assets(t), "/") {
		if strings.HasSuffix(link, ".txt") {
			continue // says where the licence comes from; nothing follows it
		}
		for _, m := range outside.FindAllString(body(t, ask(t, "GET", link)), -1) {
			if !strings.HasPrefix(m, "http://www.w3.org/") { // names of XML namespaces
				t.Errorf("%s names %s", link, m)
			}
		}
	}
}

// A phone on a weak network sees the page soon: nearly all of it, in both languages, within
// 90 kB. What is seldom opened comes when it is, and none of it is large.
func TestFirstViewIsSmall(t *testing.T) {
	total, late := 0, later(t)
	for _, link := range append(assets(t), "/") {
		if late[link] {
			if b := ask(t, "GET", link, "Accept-Encoding", "gzip"); b.ContentLength > 30_000 {
				t.Errorf("%s: %d bytes compressed", link, b.ContentLength)
			}
			continue
		}
		b, err := io.ReadAll(ask(t, "GET", link, "Accept-Encoding", "gzip").Body)
		if err != nil {
			t.Fatal(err)
		}
		total += len(b)
	}
	t.Logf("%d bytes compressed", total)
	if total > 90_000 {
		t.Errorf("%d bytes compressed", total)
	}
}

func TestDistIsWhatTheSourcesMake(t *testing.T) {
	cmd := exec.Command("go", "run", "-C", "build", ".", "-check")
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Every text exists in every language with the same parameters, every text that
// the page asks for exists, and none is left over. R20
func TestTextsAreComplete(t *testing.T) {
	load := func(name string) map[string]string {
		b, err := os.ReadFile("app/src/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]string{}
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	param := regexp.MustCompile(`\{(\w+)`)
	params := func(text string) []string {
		var names []string
		for _, m := range param.FindAllStringSubmatch(text, -1) {
			names = append(names, m[1])
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
	source := sources(t)
	for _, dir := range []string{"i18n/", "me/", "guardian/", "rights/", "outside/", "duplicates/", "binding/", "jobs/", "update/"} { // of the page, and of what is fetched later
		en, zh := load(dir+"en"), load(dir+"zh")
		for key, text := range en {
			other, ok := zh[key]
			switch {
			case !ok:
				t.Errorf("%szh lacks %s", dir, key)
			case text == "" || other == "":
				t.Errorf("%s%s is empty", dir, key)
			case !slices.Equal(params(text), params(other)):
				t.Errorf("%s%s: parameters %v in English, %v in Chinese", dir, key, params(text), params(other))
			}
			if dir != "i18n/" && !strings.Contains(source, "'"+key+"'") {
				t.Errorf("nothing asks for %s%s", dir, key)
			}
		}
		for key := range zh {
			if _, ok := en[key]; !ok {
				t.Errorf("%sen lacks %s", dir, key)
			}
		}
	}

	en := load("i18n/en")
	call := regexp.MustCompile(`\bt\(([^()]*(?:\([^()]*\)[^()]*)*)`)
	literal := regexp.MustCompile(`'([a-zA-Z]+(?:\.[a-zA-Z-]+)?)'`)
	for _, m := range call.FindAllStringSubmatch(source, -1) {
		first, _, _ := strings.Cut(m[1], ", {")
		if strings.Contains(first, "===") {
			first = first[strings.Index(first, "?")+1:]
		}
		for _, l := range literal.FindAllStringSubmatch(first, -1) {
			if _, ok := en[l[1]]; !ok {
				t.Errorf("the page asks for %s, which does not exist", l[1])
			}
		}
	}
	// Families whose last word comes from the box or from a list.
	families := regexp.MustCompile(`^(source|role|kind|state|problem|outcome|stage|record|field|place)\.|^\w+\.nav$`)
	for key := range en {
		if !families.MatchString(key) && !strings.Contains(source, "'"+key+"'") {
			t.Errorf("nothing asks for %s", key)
		}
	}
}

// What the box says in English is shown in Chinese by whole sentences. A few may
// change in the daemon before their translation does (the page then shows the
// English one), but not many.
func TestTranslatedSentencesAreStillSaid(t *testing.T) {
	files, err := filepath.Glob("app/src/*/server.zh.json")
	if err != nil {
		t.Fatal(err)
	}
	table := map[string]string{}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &table); err != nil {
			t.Fatal(err)
		}
	}
	var daemon strings.Builder
	for _, dir := range []string{"../../../daemon", "../../../dedup"} {
		err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			source := strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, ".toml")
			if err != nil || d.IsDir() || !source {
				return err
			}
			b, err := os.ReadFile(name)
			daemon.Write(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var stale []string
	for english, chinese := range table {
		if strings.Count(english, "{}") != strings.Count(chinese, "{}") {
			t.Errorf("%q and its translation have different gaps", english)
		}
		for part := range strings.SplitSeq(english, "{}") {
			if !strings.Contains(daemon.String(), strings.Trim(part, " ")) {
				stale = append(stale, english)
				break
			}
		}
	}
	if len(stale)*10 > len(table) {
		t.Errorf("%d of %d sentences are no longer said by the box:\n  %s", len(stale), len(table), strings.Join(stale, "\n  "))
	}
	if len(stale) > 0 {
		t.Logf("no longer said: %q", stale)
	}
}

// Every kind of problem that the box can answer has words in every language.
func TestProblemsHaveWords(t *testing.T) {
	b, err := os.ReadFile("app/src/i18n/zh.json")
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile("../../problem/problem.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds := regexp.MustCompile(`Kind\s+= "([a-z-]+)"`).FindAllStringSubmatch(string(table), -1)
	if len(kinds) < 10 {
		t.Fatalf("only %d kinds found in package problem", len(kinds))
	}
	for _, m := range kinds {
		if !strings.Contains(string(b), `"problem.`+m[1]+`"`) {
			t.Errorf("no words for %s", m[1])
		}
	}
}

func sources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir("app/src", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !regexp.MustCompile(`\.tsx?$`).MatchString(name) {
			return err
		}
		b, err := os.ReadFile(name)
		all.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
