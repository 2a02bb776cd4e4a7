package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// signedBox answers verify as a box does that reads one content a request.
func signedBox(t *testing.T, change func(asked []string, r *storageReceipt)) (url string, asked *int) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	asked = new(int)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked++
		var q struct{ SHA256 []string }
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		receipt := storageReceipt{Schema: "yunbox-storage-receipt/1", Time: time.Now(), Complete: len(q.SHA256) == 1}
		for i, s := range q.SHA256 {
			item := verifiedItem{SHA256: s, State: "stored", Checked: "size"}
			if i == 0 {
				item.Checked = "read"
			}
			receipt.Items = append(receipt.Items, item)
		}
		sum := sha256.Sum256(spki)
		receipt.Box = signedBy{Key: pin(sum).String(), SPKI: base64.StdEncoding.EncodeToString(spki)}
		change(q.SHA256, &receipt)
		payload, err := json.Marshal(receipt)
		if err != nil {
			t.Error(err)
		}
		encode := base64.RawURLEncoding.EncodeToString
		input := encode([]byte(`{"alg":"ES256","typ":"yunbox-storage-receipt+jws","kid":"`+pin(sum).String()+`"}`)) + "." + encode(payload)
		digest := sha256.Sum256([]byte(input))
		x, y, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			t.Error(err)
		}
		sig := make([]byte, 64)
		x.FillBytes(sig[:32])
		y.FillBytes(sig[32:])
		fmt.Fprintf(w, "\n\n{\"items\":[],\"jws\":%q}", input+"."+encode(sig))
	}))
	t.Cleanup(srv.Close)
	return srv.URL, asked
}

// What the box had no time to read is asked for again, and only what was signed
// about what was asked counts.
func TestVerifyAsksForTheRest(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte(fmt.Sprint("content ", i)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("YUNBOX_TOKEN", "token")
	verify := func(change func([]string, *storageReceipt)) (asked int, out string, err error) {
		url, n := signedBox(t, change)
		var b bytes.Buffer
		a := &app{stdout: &b, stderr: &b, json: true, box: url}
		err = a.verify(t.Context(), dir, verifyOptions{read: true, retryFor: time.Second})
		return *n, b.String(), err
	}
	asked, out, err := verify(func([]string, *storageReceipt) {})
	if err != nil || asked != 3 || strings.Count(out, `"result":"safe"`) != 3 {
		t.Errorf("%v after %d requests\n%s", err, asked, out)
	}
	for what, change := range map[string]func([]string, *storageReceipt){
		"about another content":  func(_ []string, r *storageReceipt) { r.Items[0].SHA256 = strings.Repeat("0", 64) },
		"about fewer contents":   func(_ []string, r *storageReceipt) { r.Items = r.Items[1:] },
		"of another year":        func(_ []string, r *storageReceipt) { r.Time = r.Time.AddDate(-1, 0, 0) },
		"of another form":        func(_ []string, r *storageReceipt) { r.Schema = "yunbox-receipt/1" },
		"in another box's name":  func(_ []string, r *storageReceipt) { r.Box.Key = strings.Repeat("A", 43) },
		"of a box that is stuck": func(_ []string, r *storageReceipt) { r.Items[0].Checked, r.Complete = "size", false },
	} {
		if _, out, err := verify(change); err == nil || strings.Contains(out, `"safe"`) {
			t.Errorf("a receipt %s is believed: %v\n%s", what, err, out)
		}
	}
}
