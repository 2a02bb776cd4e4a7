package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
)

// object is a JSON object of the OpenAPI document.
type object = map[string]any

// spec is the OpenAPI document as clients get it.
type spec struct {
	doc object
}

func readSpec(t *testing.T, box *daemontest.Box) *spec {
	t.Helper()
	resp, err := box.Client.Get(box.URL + "/v1/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	s := &spec{}
	if err := json.NewDecoder(resp.Body).Decode(&s.doc); err != nil || resp.StatusCode != 200 {
		t.Fatalf("GET /v1/openapi.json: %s, %v", resp.Status, err)
	}
	return s
}

// operation is one operation of the document.
type operation struct {
	method, path string
	body         object
}

func (o operation) String() string { return o.method + " " + o.path }
func (o operation) access() string { s, _ := o.body["x-access"].(string); return s }

func (s *spec) operations() []operation {
	var list []operation
	paths := s.doc["paths"].(object)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item := paths[path].(object)
		for _, method := range slices.Sorted(maps.Keys(item)) {
			list = append(list, operation{strings.ToUpper(method), path, item[method].(object)})
		}
	}
	return list
}

// find returns the operation that a request of that path belongs to, preferring
// literal parts as the box's router does.
func (s *spec) find(method, path string) (operation, bool) {
	best, bestScore := operation{}, -1
	for _, op := range s.operations() {
		if op.method != method {
			continue
		}
		if score := match(op.path, path); score > bestScore {
			best, bestScore = op, score
		}
	}
	return best, bestScore >= 0
}

func match(template, path string) int {
	if rest, ok := strings.CutSuffix(template, "/v1/files/{path}"); ok && rest == "" {
		if strings.HasPrefix(path, "/v1/files/") {
			return 2
		}
		return -1
	}
	want, have := strings.Split(template, "/"), strings.Split(strings.TrimSuffix(path, "/"), "/")
	if len(want) != len(have) {
		return -1
	}
	score := 0
	for i := range want {
		switch {
		case want[i] == have[i]:
			score += 2
		case strings.HasPrefix(want[i], "{"):
			score++
		default:
			return -1
		}
	}
	return score
}

func (s *spec) resolve(schema object) object {
	for {
		ref, ok := schema["$ref"].(string)
		if !ok {
			return schema
		}
		var at any = s.doc
		for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
			at = at.(object)[part]
		}
		schema, ok = at.(object)
		if !ok {
			return object{"unresolved": ref}
		}
	}
}

// checkAnswer holds an answer against what the document promises.
func (s *spec) checkAnswer(method, path string, status int, header http.Header, body []byte) error {
	op, ok := s.find(method, path)
	if !ok {
		return fmt.Errorf("%s %s is not described", method, path)
	}
	responses := op.body["responses"].(object)
	response, ok := responses[fmt.Sprint(status)].(object)
	if !ok {
		if status < 400 {
			return fmt.Errorf("%v does not promise a %d", op, status)
		}
		response = responses["default"].(object)
	}
	content, _ := response["content"].(object)
	if len(content) == 0 {
		if len(body) != 0 {
			return fmt.Errorf("%v: %d has a body that is not described", op, status)
		}
		return nil
	}
	if method == http.MethodHead {
		return nil
	}
	contentType := header.Get("Content-Type")
	media, ok := content[contentType].(object)
	if !ok {
		if _, any := content["application/octet-stream"]; any {
			return nil // files have a type of their own
		}
		return fmt.Errorf("%v: %d has the content type %q", op, status, contentType)
	}
	if !strings.Contains(contentType, "json") {
		return nil
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return fmt.Errorf("%v: %d: %w", op, status, err)
	}
	if status >= 400 && value.(object)["status"] != float64(status) {
		return fmt.Errorf("%v: a problem says status %v in a %d", op, value.(object)["status"], status)
	}
	if err := s.validate(media["schema"].(object), value, "body"); err != nil {
		return fmt.Errorf("%v: %d: %w in %s", op, status, err, body)
	}
	return nil
}

// validate holds a value against a schema: the part of JSON Schema 2020-12 that
// the document uses. TestOpenAPIDocument makes sure that it uses no more.
func (s *spec) validate(schema object, v any, at string) error {
	schema = s.resolve(schema)
	if list, ok := schema["oneOf"].([]any); ok {
		matching := 0
		for _, sub := range list {
			if s.validate(sub.(object), v, at) == nil {
				matching++
			}
		}
		if matching != 1 {
			return fmt.Errorf("%s matches %d alternatives", at, matching)
		}
		return nil
	}
	if !hasType(schema["type"], v) {
		return fmt.Errorf("%s is %T, not %v", at, v, schema["type"])
	}
	if enum, ok := schema["enum"].([]any); ok && v != nil && !slices.Contains(enum, v) {
		return fmt.Errorf("%s is %v, not one of %v", at, v, enum)
	}
	switch v := v.(type) {
	case string:
		if p, ok := schema["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(v) {
			return fmt.Errorf("%s: %q does not match %s", at, v, p)
		}
		if schema["format"] == "date-time" {
			if _, err := time.Parse(time.RFC3339, v); err != nil || !strings.HasSuffix(v, "Z") {
				return fmt.Errorf("%s: %q is not a time in UTC", at, v)
			}
		}
	case float64:
		if m, ok := schema["minimum"].(float64); ok && v < m {
			return fmt.Errorf("%s is %v, below %v", at, v, m)
		}
	case []any:
		for i, item := range v {
			if err := s.validate(schema["items"].(object), item, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case object:
		return s.validateObject(schema, v, at)
	}
	return nil
}

func (s *spec) validateObject(schema, v object, at string) error {
	properties, _ := schema["properties"].(object)
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := v[name.(string)]; !ok {
			return fmt.Errorf("%s lacks %v", at, name)
		}
	}
	for name, member := range v {
		sub, ok := properties[name].(object)
		if !ok {
			sub, ok = schema["additionalProperties"].(object)
		}
		if !ok {
			if schema["additionalProperties"] != true {
				return fmt.Errorf("%s has %s, which is not described", at, name)
			}
			continue
		}
		if err := s.validate(sub, member, at+"."+name); err != nil {
			return err
		}
	}
	return nil
}

func hasType(want, v any) bool {
	var have []string
	switch v := v.(type) {
	case nil:
		have = []string{"null"}
	case bool:
		have = []string{"boolean"}
	case string:
		have = []string{"string"}
	case float64:
		have = []string{"number"}
		if v == float64(int64(v)) {
			have = append(have, "integer")
		}
	case []any:
		have = []string{"array"}
	case object:
		have = []string{"object"}
	}
	switch want := want.(type) {
	case nil:
		return true
	case string:
		return slices.Contains(have, want)
	case []any:
		return slices.ContainsFunc(want, func(w any) bool { return slices.Contains(have, w.(string)) })
	}
	return false
}

// The document is a valid OpenAPI 3.1 document as far as a program can rely on
// it: complete, closed in itself, and in the vocabulary that it may use.
func TestOpenAPIDocument(t *testing.T) {
	t.Parallel()
	box := daemontest.Start(t)
	s := readSpec(t, box)
	if s.doc["openapi"] != "3.1.0" {
		t.Errorf("openapi is %v", s.doc["openapi"])
	}
	info := s.doc["info"].(object)
	if info["title"] != "yunbox" || info["version"] == "" {
		t.Errorf("info is %v", info)
	}
	tags := map[string]bool{}
	for _, tag := range s.doc["tags"].([]any) {
		tags[tag.(object)["name"].(string)] = true
	}
	schemes := s.doc["components"].(object)["securitySchemes"].(object)
	ids := map[string]bool{}
	for _, op := range s.operations() {
		checkOperation(t, op, tags, schemes, ids)
	}
	if len(ids) < 40 {
		t.Errorf("only %d operations are described", len(ids))
	}
	used := map[string]bool{}
	walk(s.doc, func(path string, node object) {
		if ref, ok := node["$ref"].(string); ok {
			used[ref] = true
			if _, lost := s.resolve(node)["unresolved"]; lost || !strings.HasPrefix(ref, "#/") {
				t.Errorf("%s: %s leads nowhere", path, ref)
			}
		}
		if typ, ok := node["type"].([]any); ok && slices.Contains(typ, any("array")) {
			t.Errorf("%s: an array that may be null", path)
		}
	})
	for name, schema := range s.doc["components"].(object)["schemas"].(object) {
		if !used["#/components/schemas/"+name] {
			t.Errorf("the schema %s is used nowhere", name)
		}
		checkSchema(t, name, schema.(object))
	}
}

func checkOperation(t *testing.T, op operation, tags map[string]bool, schemes object, ids map[string]bool) {
	id, _ := op.body["operationId"].(string)
	if id == "" || ids[id] {
		t.Errorf("%v: operationId %q is missing or used twice", op, id)
	}
	ids[id] = true
	if op.body["summary"] == nil || op.access() == "" {
		t.Errorf("%v has no summary or does not say who may use it", op)
	}
	for _, tag := range op.body["tags"].([]any) {
		if !tags[tag.(string)] {
			t.Errorf("%v: the tag %v is not declared", op, tag)
		}
	}
	security, ok := op.body["security"].([]any)
	if !ok || (len(security) == 0) != (op.access() == "public") {
		t.Errorf("%v: security %v does not fit the access %s", op, security, op.access())
	}
	for _, requirement := range security {
		for name := range requirement.(object) {
			if schemes[name] == nil {
				t.Errorf("%v: the security scheme %s is not declared", op, name)
			}
		}
	}
	inPath := map[string]bool{}
	parameters, _ := op.body["parameters"].([]any)
	for _, p := range parameters {
		p := p.(object)
		if p["in"] == "path" {
			inPath[p["name"].(string)] = true
			if p["required"] != true {
				t.Errorf("%v: the path parameter %v is not required", op, p["name"])
			}
		}
		if p["schema"] == nil || p["name"] == "" {
			t.Errorf("%v: the parameter %v has no schema", op, p)
		}
	}
	for _, m := range regexp.MustCompile(`\{([^}]+)\}`).FindAllStringSubmatch(op.path, -1) {
		if !inPath[m[1]] {
			t.Errorf("%v: the parameter %s is not described", op, m[1])
		}
		delete(inPath, m[1])
	}
	if len(inPath) > 0 {
		t.Errorf("%v: %v are not in the path", op, inPath)
	}
	responses := op.body["responses"].(object)
	success := false
	for status, r := range responses {
		success = success || status[0] == '2' || status == "303"
		if r.(object)["description"] == "" || r.(object)["description"] == nil {
			t.Errorf("%v: the response %s has no description", op, status)
		}
	}
	problem := responses["default"].(object)["content"].(object)["application/problem+json"]
	if !success || problem == nil {
		t.Errorf("%v does not say what it answers: %v", op, responses)
	}
}

// keywords are what the validator of this test understands, and annotations.
var keywords = []string{
	"$ref", "type", "properties", "required", "additionalProperties", "items", "enum", "pattern", "format", "minimum", "oneOf",
	"maximum", "minLength", "maxLength", "minItems", "maxItems", "description", "examples", "default",
	"contentMediaType", "patternDescription",
}

func checkSchema(t *testing.T, at string, schema object) {
	for k, v := range schema {
		if !slices.Contains(keywords, k) {
			t.Errorf("%s uses %s", at, k)
		}
		switch v := v.(type) {
		case object:
			if k == "properties" {
				for name, sub := range v {
					checkSchema(t, at+"."+name, sub.(object))
				}
			} else if k == "items" || k == "additionalProperties" {
				checkSchema(t, at+"."+k, v)
			}
		case []any:
			if k == "oneOf" {
				for _, sub := range v {
					checkSchema(t, at+".oneOf", sub.(object))
				}
			}
		}
	}
}

func walk(v any, visit func(path string, node object)) { walkAt("#", v, visit) }

func walkAt(path string, v any, visit func(string, object)) {
	switch v := v.(type) {
	case object:
		visit(path, v)
		for k, sub := range v {
			walkAt(path+"/"+k, sub, visit)
		}
	case []any:
		for i, sub := range v {
			walkAt(fmt.Sprintf("%s/%d", path, i), sub, visit)
		}
	}
}
