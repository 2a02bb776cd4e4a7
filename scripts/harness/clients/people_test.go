package clients

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"yunbox.local/scripts/harness/internal/box"
)

// TestWithdrawalStopsRunningUpload lets curl send slowly and takes the consent back.
func TestWithdrawalStopsRunningUpload(t *testing.T) { // R06 R22
	b := start(t)
	revision, err := b.PolicyRevision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	grant := map[string]any{"granted": true, "policy_revision": revision}
	if err := b.API(t.Context(), http.MethodPut, "/v1/consents/wechat_backup", grant, nil); err != nil {
		t.Fatal(err)
	}
	file, _ := content(t, 64*mib)
	p := proxy(t, b)
	address, err := url.Parse(b.FileURL("wechat/video.mp4"))
	if err != nil {
		t.Fatal(err)
	}
	address.Host = "127.0.0.1:" + strconv.Itoa(p.Port())
	done := make(chan curlResult, 1)
	go func() {
		done <- curl(t, b, "-H", "Authorization: Bearer "+b.Token, "-T", file, "--limit-rate", "4M", address.String()+"?source=wechat")
	}()
	for p.Sent() < 3*mib {
		select {
		case r := <-done:
			t.Fatalf("the upload ended before the consent was withdrawn: %+v", r)
		case <-time.After(time.Millisecond):
		}
	}
	if err := b.API(t.Context(), http.MethodDelete, "/v1/consents/wechat_backup", nil, nil); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r.status/100 == 2 || r.uploaded >= 64*mib {
		t.Errorf("the upload went on to its end: %+v", r)
	}
	mustNotHave(t, b, "wechat/video.mp4")
}

// TestSecondPersonLearnsNothing asks for the contents of somebody else.
func TestSecondPersonLearnsNothing(t *testing.T) { // R34
	b := start(t)
	file, sum := content(t, 100_000)
	owner := b.Token
	if r := curl(t, b, "-H", "Authorization: Bearer "+owner, "-T", file, b.FileURL("private.jpg")); r.status != 201 {
		t.Fatalf("%+v", r)
	}
	const name, password = "guest", "another long password"
	if err := b.API(t.Context(), http.MethodPost, "/v1/users", map[string]string{"username": name, "password": password, "role": "member"}, nil); err != nil {
		t.Fatal(err)
	}
	var session struct{ Token string }
	if err := b.API(t.Context(), http.MethodPost, "/v1/session", map[string]string{"username": name, "password": password}, &session); err != nil {
		t.Fatal(err)
	}
	b.Token = session.Token
	revision, err := b.PolicyRevision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.API(t.Context(), http.MethodPut, "/v1/policy", map[string]any{"accepted": true, "revision": revision}, nil); err != nil {
		t.Fatal(err)
	}
	var answer struct{ Known []string }
	ask := map[string][]string{"sha256": {sum}}
	if err := b.API(t.Context(), http.MethodPost, "/v1/blobs/known", ask, &answer); err != nil || len(answer.Known) != 0 {
		t.Errorf("another person's content is known: %q, %v", answer.Known, err)
	}
	mustNotHave(t, b, "private.jpg")
	// The digest alone must not give the content away either: the box asks for the bytes.
	r := curl(t, b, "-H", "Authorization: Bearer "+b.Token, "-X", "PUT", "-H", "Content-Length: 0", "-H", digest(sum), b.FileURL("stolen.jpg"))
	if r.status/100 == 2 {
		t.Errorf("a digest was taken for the content: %+v", r)
	}
	mustNotHave(t, b, "stolen.jpg")
	// Sending the same bytes is new to this person, and tells nothing.
	r = curl(t, b, "-H", "Authorization: Bearer "+b.Token, "-T", file, "-H", digest(sum), b.FileURL("own.jpg"))
	if r.status != 201 || !bytes.Contains([]byte(r.body), []byte(`"new"`)) || r.uploaded != 100_000 {
		t.Errorf("%+v", r)
	}
	mustHave(t, b, "own.jpg", sum)
	if err := b.API(t.Context(), http.MethodGet, "/v1/users", nil, nil); !box.IsStatus(err, http.StatusForbidden) {
		t.Errorf("a member may list people: %v", err)
	}
}
