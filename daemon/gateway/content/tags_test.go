package content

import (
	"net/http"
	"testing"

	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

func TestContentTypeRunsNothing(t *testing.T) {
	for name, want := range map[string]string{
		"a.JPG": "image/jpeg", "a.heic": "image/heic", "a.txt": "text/plain; charset=utf-8",
		"a.svg": "application/octet-stream", "a.html": "application/octet-stream", "a.js": "application/octet-stream",
		"a.xml": "application/octet-stream", "noext": "application/octet-stream", "a.jpg.html": "application/octet-stream",
	} {
		if got := Type(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestAttachmentKeepsNames(t *testing.T) {
	for name, want := range map[string]string{
		"a.jpg":         "attachment; filename=a.jpg",
		"a b\"c.jpg":    `attachment; filename="a b\"c.jpg"`,
		"微信 😀.jpg":      "attachment; filename*=utf-8''%E5%BE%AE%E4%BF%A1%20%F0%9F%98%80.jpg",
		"a;x=y\r\n.jpg": "attachment; filename*=utf-8''a%3Bx%3Dy%0D%0A.jpg",
	} {
		if got := attachment(name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

func TestEntityTags(t *testing.T) {
	ref, other := storage.Ref{1}, storage.Ref{2}
	for list, want := range map[string]bool{
		"*": true, ETag(ref): true, ETag(other): false, ETag(other) + ", " + ETag(ref): true,
		"W/" + ETag(ref): false, ref.String(): false, "": false,
	} {
		if got := HasTag(list, ref); got != want {
			t.Errorf("%s: %v", list, got)
		}
	}
	if http.StatusPreconditionFailed != problem.PreconditionFailed.Status() {
		t.Error("a failed precondition is not 412")
	}
}
