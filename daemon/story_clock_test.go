package daemon_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
)

const decade = 10 * 365 * 24 * time.Hour

// rightTime gives the box's client a clock that is right, whatever the box's is.
func rightTime(b *daemontest.Box) {
	b.Client.CloseIdleConnections()
	config := b.TLS()
	config.Time = time.Now
	b.Client = &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
}

// A clock that jumps ends nothing that could not begin again: no session, no upload that
// is under way, not the memory of what was deleted. Phones reach the box meanwhile,
// and what they send is kept. When the time is right again, nothing lasts for ever.
func TestAClockThatJumpsEndsNothing(t *testing.T) { // R15
	t.Parallel()
	for name, jump := range map[string]time.Duration{"ten years ahead": decade, "ten years back": -decade, "a month back": -30 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := daemontest.Start(t)
			ada := b.Bind()
			ada.Grant("album_backup")
			tus := []string{"Tus-Resumable", "1.0.0", "Content-Type", "application/offset+octet-stream"}
			begin := func(name string) string {
				r := ask(ada, "POST", "/v1/uploads", "", append(tus, "Upload-Length", "9",
					"Upload-Metadata", "path "+b64(name)+",source "+b64("album"))...).is(t, "creation", 201, "")
				return r.header.Get("Location")[len(b.URL):]
			}
			put(t, ada, "kept.jpg", "kept")
			put(t, ada, "trash.jpg", "rubbish")
			ask(ada, "DELETE", "/v1/files/trash.jpg", "").is(t, "trash", 204, "")
			put(t, ada, "gone.jpg", "never again")
			purgeFile(t, ada, "gone.jpg")
			before := begin("before.jpg")
			ask(ada, "PATCH", before, "half", append(tus, "Upload-Offset", "0")...).is(t, "half of it", 204, "")
			declined := func(when string) {
				t.Helper()
				if r := ask(ada, "POST", "/v1/blobs/known", `{"sha256":["`+sumOf("never again")+`"]}`); !strings.Contains(string(r.body), `"reason":"deleted"`) {
					t.Errorf("%s: what its owner deleted would be sent again: %s", when, r.body)
				}
			}
			declined("before")

			b.Leap(jump)
			rightTime(b)
			ask(ada, "GET", "/v1/me", "").is(t, "the session", 200, "")
			put(t, ada, "meanwhile.jpg", "meanwhile")
			meanwhile := begin("meanwhile.mp4")
			other := b.SignIn("ada")
			declined("meanwhile")
			b.Local("POST", "/local/sweep", nil, nil)
			if r := ask(ada, "GET", "/v1/items?trash=true", ""); !strings.Contains(string(r.body), "trash.jpg") {
				t.Errorf("the trash was emptied: %s", r.body)
			}
			var status struct {
				Scrub struct {
					Oldest *time.Time `json:"oldest_unverified"`
				}
			}
			b.Local("GET", "/local/status", nil, &status)
			if o := status.Scrub.Oldest; o == nil || (jump > 0 && time.Since(*o).Abs() > time.Hour) {
				t.Errorf("the oldest unverified content is of %v", o)
			}

			b.Leap(-jump)
			for _, p := range []*daemontest.Person{ada, other} {
				ask(p, "GET", "/v1/me", "").is(t, "a session when the time is right again", 200, "")
			}
			b.Local("POST", "/local/sweep", nil, nil)
			ask(ada, "PATCH", before, " full", append(tus, "Upload-Offset", "4")...).is(t, "the upload from before", 204, "")
			ask(ada, "PATCH", meanwhile, "the bytes", append(tus, "Upload-Offset", "0")...).is(t, "the upload from meanwhile", 204, "")
			for name, content := range map[string]string{"kept.jpg": "kept", "meanwhile.jpg": "meanwhile", "before.jpg": "half full"} {
				if r := ask(ada, "GET", "/v1/files/"+name, ""); string(r.body) != content {
					t.Errorf("%s: %v", name, r)
				}
			}
			declined("after")
			unfinished := begin("unfinished.mp4")
			b.Pass(31 * 24 * time.Hour)
			b.Local("POST", "/local/sweep", nil, nil)
			for _, p := range []*daemontest.Person{ada, other} {
				ask(p, "GET", "/v1/me", "").is(t, "a session after a month without use", 401, "unauthenticated")
			}
			ask(b.SignIn("ada"), "HEAD", unfinished, "", tus...).is(t, "an upload after a month", 404, "")
		})
	}
}

func purgeFile(t *testing.T, p *daemontest.Person, path string) {
	t.Helper()
	ask(p, "DELETE", "/v1/files/"+path, "").is(t, "trash", 204, "")
	var list struct{ Items []struct{ ID, Path string } }
	ask(p, "GET", "/v1/items?trash=true", "").into(t, &list)
	for _, it := range list.Items {
		if it.Path == path {
			ask(p, "DELETE", "/v1/items/"+it.ID, "").is(t, "purge", 204, "")
		}
	}
}

// A box whose clock is wrong when it starts comes up, lets in those who were in, and
// takes what they send.
func TestABoxStartsWithAWrongClock(t *testing.T) { // R15
	t.Parallel()
	for name, jump := range map[string]time.Duration{"1970": -time.Since(time.Unix(60, 0)), "ten years ahead": decade, "ten years back": -decade} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := daemontest.Start(t)
			ada := b.Bind()
			ada.Grant("album_backup")
			put(t, ada, "before.jpg", "before")
			for range 2 { // also after a stop with the wrong time
				b.Stop()
				b.Leap(jump)
				b.Restart()
				if name != "ten years ahead" {
					rightTime(b)
				}
				put(t, ada, "meanwhile.jpg", name)
				ask(ada, "GET", "/v1/me", "").is(t, "the session", 200, "")
				ask(ada, "GET", "/v1/files/before.jpg", "").is(t, "the file", 200, "")
				var receipt struct {
					Unsure bool `json:"clock_unsure"`
				}
				ask(ada, "POST", "/v1/blobs/verify", `{"sha256":["`+sumOf("before")+`"]}`).is(t, "a receipt", 200, "").into(t, &receipt)
				if !receipt.Unsure {
					t.Error("a receipt does not say that its time may be wrong")
				}
				b.Stop()
				b.Leap(-jump)
				b.Restart()
				ask(ada, "GET", "/v1/me", "").is(t, "the session when the time is right again", 200, "")
			}
		})
	}
}
