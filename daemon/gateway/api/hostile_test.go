package api_test

import (
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// Whatever is sent instead of what an operation expects, the answer is a
// problem of the client and never one of the box.
func TestHostileBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	megabyte := strings.Repeat("x", 1<<20)
	for _, op := range w.spec.operations() {
		schema := w.jsonBody(op)
		if schema == nil {
			continue
		}
		bodies := []string{
			"{", "null", "[]", `"text"`, "1", "{}", `{"a":1}`, `{"` + megabyte + `":1}`, strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 20_000),
			"\xff\xfe", `{"a":"\ud800"}`, "{}{}", "\x00",
		}
		properties := schema["properties"].(object)
		for _, name := range slices.Sorted(maps.Keys(properties)) {
			for _, v := range []any{nil, true, -1, 1e308, "", "\x00", "\u202e", megabyte[:60_000], []any{}, []any{nil}, object{}, object{"a": 1}} {
				body, err := json.Marshal(w.fill(schema, name, v))
				if err != nil {
					t.Fatal(err)
				}
				bodies = append(bodies, string(body))
			}
		}
		for _, body := range bodies {
			a := w.ask(w.ada, op.method, op.example(), body, "Content-Type", "application/json")
			if a.status >= 500 && a.status != 501 {
				t.Errorf("%v took %.80s for %d: %.300s", op, body, a.status, a.body)
			}
		}
	}
	w.ask(w.ada, "GET", "/v1/me", "").is(t, "after all that", 200, "")
}

// jsonBody is the schema of the JSON that an operation takes, nil if it takes none.
func (w *world) jsonBody(op operation) object {
	body, _ := op.body["requestBody"].(object)
	content, _ := body["content"].(object)
	media, ok := content["application/json"].(object)
	if !ok {
		return nil
	}
	return w.spec.resolve(media["schema"].(object))
}

// fill makes a body that fits the schema but for one member.
func (w *world) fill(schema object, name string, v any) object {
	out := object{}
	required, _ := schema["required"].([]any)
	for n, p := range schema["properties"].(object) {
		p := w.spec.resolve(p.(object))
		switch {
		case n == name:
			out[n] = v
		case !slices.Contains(required, any(n)):
		case p["type"] == "string":
			out[n] = "text"
		case p["type"] == "boolean":
			out[n] = true
		case p["type"] == "array":
			out[n] = []any{}
		}
	}
	return out
}

// The same for what stands in the address.
func TestHostileQueries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	values := []string{"", "-1", "0", "99999999999999999999", "1e9", "\x00", "\xff", "\u202e", "../..", "'; DROP TABLE item; --", "%00", "true", strings.Repeat("x", 8000)}
	for _, op := range w.spec.operations() {
		parameters, _ := op.body["parameters"].([]any)
		for _, p := range parameters {
			p := p.(object)
			name := p["name"].(string)
			for _, v := range values {
				target := op.example()
				if p["in"] == "query" {
					path, _, _ := strings.Cut(target, "?")
					target = path + "?" + url.Values{name: {v}}.Encode()
				} else if p["in"] == "path" && v != "" && v != "../.." {
					target = strings.ReplaceAll(op.path, "{"+name+"}", url.PathEscape(v))
				} else {
					continue
				}
				a := w.ask(w.ada, op.method, target, "", "Tus-Resumable", "1.0.0")
				if a.status >= 500 {
					t.Errorf("%s %.100s: %d %.300s", op.method, target, a.status, a.body)
				}
			}
		}
	}
	w.ask(w.ada, "GET", "/v1/me", "").is(t, "after all that", 200, "")
}
