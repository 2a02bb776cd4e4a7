package api_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
)

// An app that frees space keeps what the box signed: what was on its disk, whose,
// when, and when the bytes were last read back.
func TestStorageReceipts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var about struct{ ID, Fingerprint string }
	w.ask(nil, "GET", "/.well-known/yunbox", "").into(t, &about)
	contents := map[string]string{}
	for _, name := range []string{"kept", "trash", "flipped", "cut", "gone"} {
		contents[name] = name + strings.Repeat(" is all there is", 30_000)
		w.put(w.ada, name+".jpg", contents[name])
	}
	w.put(w.bob(), "bobs.jpg", "bob's own")
	contents["bobs"] = "bob's own"
	w.ask(w.ada, "DELETE", "/v1/files/trash.jpg", "").is(t, "to the trash", 204, "")

	type found struct {
		SHA256, State, Checked string
		Size                   *int64
		ReadBack               *time.Time `json:"read_back"`
	}
	names := []string{"kept", "trash", "flipped", "cut", "gone", "bobs", "kept"}
	ask := func(p *daemontest.Person, read bool) (states map[string]found) {
		t.Helper()
		question := map[string]any{"sha256": []string{}, "read": read}
		for _, n := range names {
			question["sha256"] = append(question["sha256"].([]string), sha(contents[n]))
		}
		body, err := json.Marshal(question)
		if err != nil {
			t.Fatal(err)
		}
		a := w.ask(p, "POST", "/v1/blobs/verify", string(body))
		a.is(t, "verify", 200, "")
		signed := openReceipt(t, a.body, about.Fingerprint)
		var doc struct {
			Box      struct{ ID string }
			Time     time.Time
			Complete bool
			Items    []found
		}
		if err := json.Unmarshal(signed, &doc); err != nil {
			t.Fatal(err)
		}
		if doc.Box.ID != about.ID || !doc.Complete || len(doc.Items) != len(names) || time.Since(doc.Time).Abs() > time.Minute {
			t.Errorf("%s", signed)
		}
		states = map[string]found{}
		for i, n := range names {
			if doc.Items[i].SHA256 != sha(contents[n]) {
				t.Errorf("the %d. answer is about another content", i)
			}
			states[n] = doc.Items[i]
		}
		return states
	}
	check := func(when string, got map[string]found, want map[string][2]string) {
		t.Helper()
		for n, s := range want {
			if g := got[n]; [2]string{g.State, g.Checked} != s || (g.Size == nil) != (s[0] == "unknown") {
				t.Errorf("%s: %s is %+v, want %v", when, n, g, s)
			}
		}
	}
	sound := map[string][2]string{
		"kept": {"stored", "size"}, "trash": {"trash", "size"}, "flipped": {"stored", "size"}, "cut": {"stored", "size"}, "gone": {"stored", "size"}, "bobs": {"unknown", "none"},
	}
	first := ask(w.ada, false)
	check("at first", first, sound)
	for n, f := range first {
		if f.ReadBack != nil {
			t.Errorf("%s was read back before anybody asked: %v", n, f.ReadBack)
		}
	}
	if f := ask(w.bob(), true); f["kept"].State != "unknown" || f["bobs"].State != "stored" || f["bobs"].Checked != "read" {
		t.Errorf("bob: %+v", f)
	}
	before := time.Now().Add(-time.Minute)
	if f := ask(w.ada, true)["kept"]; f.State != "stored" || f.Checked != "read" || f.ReadBack == nil || f.ReadBack.Before(before) {
		t.Errorf("read back: %+v", f)
	}
	blob := func(n string) string {
		sum := sha(contents[n])
		name := filepath.Join(w.State, "blobs", sum[:2], sum)
		if err := os.Chmod(name, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	flipped, err := os.OpenFile(blob("flipped"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := flipped.WriteAt([]byte{'!'}, 200_000); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{flipped.Close(), os.Truncate(blob("cut"), 1000), os.Remove(blob("gone"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	// Without reading, the file that has its size looks well; and the receipt says
	// since when that is known.
	got := ask(w.ada, false)
	check("after the damage", got, map[string][2]string{"kept": {"stored", "size"}, "flipped": {"stored", "size"}, "cut": {"damaged", "size"}, "gone": {"missing", "none"}})
	if got["flipped"].ReadBack == nil || got["kept"].ReadBack == nil {
		t.Errorf("it is forgotten when they were read back: %+v", got)
	}
	check("read", ask(w.ada, true), map[string][2]string{"kept": {"stored", "read"}, "trash": {"trash", "read"}, "flipped": {"damaged", "read"}, "gone": {"missing", "none"}})
	check("read before", ask(w.ada, false), map[string][2]string{"kept": {"stored", "size"}, "flipped": {"damaged", "size"}})
	// What is damaged is asked for again, and is well after that.
	for _, n := range []string{"flipped", "cut", "gone"} {
		var known struct{ Known []string }
		w.ask(w.ada, "POST", "/v1/blobs/known", `{"sha256":["`+sha(contents[n])+`"]}`).into(t, &known)
		if len(known.Known) != 0 {
			t.Errorf("%s need not be sent again", n)
		}
		w.ask(w.ada, "PUT", "/v1/files/"+n+".jpg?source=album", contents[n], "Repr-Digest", reprDigest(contents[n]))
	}
	check("mended", ask(w.ada, true), map[string][2]string{"flipped": {"stored", "read"}, "cut": {"stored", "read"}, "gone": {"stored", "read"}})

	many := `{"sha256":["` + strings.Repeat(sha("x")+`","`, 999) + sha("x") + `"]}`
	w.ask(w.ada, "POST", "/v1/blobs/verify", many).is(t, "1,000", 200, "")
	for what, bad := range map[string]string{
		"1,001": strings.Replace(many, `["`, `["`+sha("y")+`","`, 1), "none": `{}`, "null": `{"sha256":null}`, "short": `{"sha256":["abc"]}`,
		"upper case": `{"sha256":["` + strings.ToUpper(sha("x")) + `"]}`, "not JSON": `{"sha256":[`, "unknown": `{"sha256":[],"x":1}`,
	} {
		w.ask(w.ada, "POST", "/v1/blobs/verify", bad).is(t, what, 400, "invalid")
	}
	w.ask(nil, "POST", "/v1/blobs/verify", many).is(t, "nobody", 401, "unauthenticated")
}

// openReceipt does what an app does that has pinned the box's key: it trusts the
// signature and nothing else.
func openReceipt(t *testing.T, answer []byte, pinned string) (payload []byte) {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal(answer, &doc); err != nil {
		t.Fatal(err)
	}
	jws, _ := doc["jws"].(string)
	delete(doc, "jws")
	parts := strings.Split(jws, ".")
	if len(parts) != 3 {
		t.Fatalf("no JWS: %q", jws)
	}
	decode := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if h := string(decode(parts[0])); h != `{"alg":"ES256","typ":"yunbox-storage-receipt+jws","kid":"`+pinned+`"}` {
		t.Errorf("header %s", h)
	}
	payload = decode(parts[1])
	var signed map[string]any
	if err := json.Unmarshal(payload, &signed); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(signed, doc) {
		t.Error("the answer says something else than what was signed")
	}
	spki, err := base64.StdEncoding.DecodeString(signed["box"].(map[string]any)["spki"].(string))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(spki); base64.RawURLEncoding.EncodeToString(sum[:]) != pinned {
		t.Error("signed by another key than the pinned one")
	}
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	sig := decode(parts[2])
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	valid := func(digest [32]byte) bool {
		return ecdsa.Verify(key.(*ecdsa.PublicKey), digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
	}
	if !valid(digest) || valid(sha256.Sum256([]byte(parts[0]+"."+parts[1]+"x"))) {
		t.Error("the signature is wrong")
	}
	return payload
}
