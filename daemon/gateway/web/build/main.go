// Command build makes ../dist, the admin page as it is embedded into the
// daemon, from ../app. It needs nothing but Go: esbuild is used as a library,
// and lives in this module of its own so that the daemon does not depend on it.
//
// Usage, in daemon/gateway/web:
//
//	go run -C build .          writes dist
//	go run -C build . -check   says whether dist is what the sources make
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

func main() {
	root := flag.String("root", "..", "directory that holds app and dist")
	check := flag.Bool("check", false, "compare instead of writing")
	flag.Parse()
	if err := run(*root, *check); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(root string, check bool) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	files, err := build(filepath.Join(root, "app"))
	if err != nil {
		return err
	}
	dist := filepath.Join(root, "dist")
	if check {
		return compare(files, dist)
	}
	return write(files, dist)
}

// build returns every file of dist by its slash-separated path. The same
// sources give the same bytes on every machine: no time, path or host enters.
func build(app string) (map[string][]byte, error) {
	files := map[string][]byte{}
	asset := func(name string, data []byte) string {
		ext := filepath.Ext(name)
		p := "assets/" + strings.TrimSuffix(name, ext) + "-" + digest(data) + ext
		files[p] = data
		return "/" + p
	}

	worker, err := bundle(app, "src/upload/hash.worker.ts", api.FormatIIFE, nil)
	if err != nil {
		return nil, err
	}
	licenses, err := os.ReadFile(filepath.Join(app, "vendor/preact/LICENSE"))
	if err != nil {
		return nil, err
	}
	script, parts, err := split(app, "src/main.tsx", map[string]string{
		"WORKER_URL":   fmt.Sprintf("%q", asset("hash.js", worker)),
		"LICENSES_URL": fmt.Sprintf("%q", asset("licenses.txt", append([]byte("This page contains Preact (https://preactjs.com).\n\n"), licenses...))),
	})
	if err != nil {
		return nil, err
	}
	for name, data := range parts {
		files["assets/"+name] = data
	}
	style, err := bundle(app, "src/style.css", api.FormatDefault, nil)
	if err != nil {
		return nil, err
	}
	icon, err := os.ReadFile(filepath.Join(app, "src/icon.svg"))
	if err != nil {
		return nil, err
	}
	page, err := os.ReadFile(filepath.Join(app, "src/index.html"))
	if err != nil {
		return nil, err
	}
	for from, to := range map[string]string{
		"main.tsx":  "/assets/" + script,
		"style.css": asset("style.css", style),
		"icon.svg":  asset("icon.svg", icon),
	} {
		if bytes.Count(page, []byte(`"`+from+`"`)) != 1 {
			return nil, fmt.Errorf("index.html must name %q exactly once", from)
		}
		page = bytes.Replace(page, []byte(`"`+from+`"`), []byte(`"`+to+`"`), 1)
	}
	files["index.html"] = page
	return files, nil
}

func bundle(app, entry string, format api.Format, define map[string]string) ([]byte, error) {
	files, err := outputs(options(app, entry, format, define))
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		return nil, fmt.Errorf("%s: %d output files, want one", entry, len(files))
	}
	return files[0].Contents, nil
}

// split bundles entry as several modules: what import() names is fetched when it is
// first wanted. It returns the name of the entry's own file, and all files. Each is named
// by esbuild after its content and that of what it imports.
func split(app, entry string, define map[string]string) (main string, files map[string][]byte, err error) {
	opt := options(app, entry, api.FormatESModule, define)
	opt.Splitting = true
	opt.EntryNames, opt.ChunkNames = "app-[hash]", "part-[hash]"
	list, err := outputs(opt)
	if err != nil {
		return "", nil, err
	}
	files = map[string][]byte{}
	for _, f := range list {
		name := filepath.Base(f.Path)
		if files[name] = f.Contents; strings.HasPrefix(name, "app-") {
			main = name
		}
	}
	return main, files, nil
}

func options(app, entry string, format api.Format, define map[string]string) api.BuildOptions {
	return api.BuildOptions{
		AbsWorkingDir:     app,
		EntryPoints:       []string{entry},
		Outdir:            "/out",
		Bundle:            true,
		Write:             false,
		Format:            format,
		Define:            define,
		MinifyWhitespace:  true,
		MinifyIdentifiers: true,
		MinifySyntax:      true,
		Charset:           api.CharsetUTF8,
		LegalComments:     api.LegalCommentsNone,
		JSX:               api.JSXAutomatic,
		JSXImportSource:   "preact",
		Engines: []api.Engine{
			{Name: api.EngineChrome, Version: "100"},
			{Name: api.EngineFirefox, Version: "102"},
			{Name: api.EngineSafari, Version: "15.4"},
		},
		Alias: map[string]string{
			"preact":             "./vendor/preact/dist/preact.mjs",
			"preact/hooks":       "./vendor/preact/hooks/dist/hooks.mjs",
			"preact/jsx-runtime": "./vendor/preact/jsx-runtime/dist/jsxRuntime.mjs",
		},
	}
}

func outputs(opt api.BuildOptions) ([]api.OutputFile, error) {
	r := api.Build(opt)
	if len(r.Errors) > 0 || len(r.Warnings) > 0 {
		text := api.FormatMessages(append(r.Errors, r.Warnings...), api.FormatMessagesOptions{Kind: api.ErrorMessage})
		return nil, errors.New(strings.Join(text, "\n"))
	}
	return r.OutputFiles, nil
}

// digest names an asset by its content, so that a browser may keep it for good.
func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:10])
}

func write(files map[string][]byte, dist string) error {
	if err := os.RemoveAll(dist); err != nil {
		return err
	}
	for p, data := range files {
		name := filepath.Join(dist, filepath.FromSlash(p))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func compare(files map[string][]byte, dist string) error {
	var bad []string
	err := filepath.WalkDir(dist, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		p, err := filepath.Rel(dist, name)
		if err != nil {
			return err
		}
		p = filepath.ToSlash(p)
		want, ok := files[p]
		if !ok {
			bad = append(bad, p+" is not made by the sources")
			return nil
		}
		delete(files, p)
		have, err := os.ReadFile(name)
		if err == nil && !bytes.Equal(have, want) {
			bad = append(bad, p+" differs")
		}
		return err
	})
	if err != nil {
		return err
	}
	for p := range files {
		bad = append(bad, p+" is missing")
	}
	if len(bad) > 0 {
		slices.Sort(bad)
		return fmt.Errorf("dist is stale: run `go generate ./daemon/gateway/web`\n  %s", strings.Join(bad, "\n  "))
	}
	return nil
}
