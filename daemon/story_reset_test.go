package daemon_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"yunbox.local/daemon/daemontest"
)

type labelOf struct {
	Serial, Code string
	PairURI      string `json:"pair_uri"`
	Spent        bool
}

// R03: after a factory reset nothing of anybody is in the state directory, and the box is
// another one that has the same serial number.
func TestFactoryReset(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	var before, after labelOf
	b.Local("GET", "/local/label", nil, &before)
	ada := b.Bind()
	ada.Grant("storage", "album_backup", "profile_details")
	bob := b.AddPerson("bob")
	const content = "the only picture of grandmother, which somebody kept"
	for i := range 4 {
		put(t, ada, fmt.Sprintf("grandmother-%d.jpg", i), fmt.Sprint(content, i))
	}
	ada.Call("PUT", "/v1/me/profile/phone", map[string]any{"value": "+86 139 1234 5678"}, nil)
	ask(ada, "DELETE", "/v1/files/grandmother-1.jpg", "")
	about := func() (fingerprint, name string) {
		var a struct{ Fingerprint, Name string }
		ask(b.Nobody(), "GET", "/.well-known/yunbox", "").is(t, "about", 200, "").into(t, &a)
		return a.Fingerprint, a.Name
	}
	key, name := about()
	secrets := [][]byte{[]byte(content), []byte("grandmother"), []byte("139 1234"), []byte(ada.ID), []byte(before.Code), []byte(key)}
	private, err := os.ReadFile(filepath.Join(b.State, "keys", "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, bytes.Split(private, []byte("\n"))[1])
	found := func() (names []string) {
		err := filepath.WalkDir(b.State, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it came and went meanwhile
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			for _, s := range secrets {
				if bytes.Contains(data, s) || bytes.Contains([]byte(path), s) {
					names = append(names, path)
					break
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	if len(found()) < 8 {
		t.Fatalf("what is looked for is hardly there: %v", found())
	}

	confirm := fmt.Sprintf(`{"confirm":%q}`, name)
	ask(b.Nobody(), "POST", "/v1/factory-reset", confirm).is(t, "nobody", 401, "unauthenticated")
	ask(bob, "POST", "/v1/factory-reset", confirm).is(t, "a member", 403, "forbidden")
	ask(ada, "POST", "/v1/factory-reset", `{"confirm":"yes"}`).is(t, "not the name", 400, "invalid")
	b.Restart()
	ask(ada, "POST", "/v1/factory-reset", confirm).is(t, "without a fresh proof", 403, "step-up-required")
	ask(ada, "GET", "/v1/files/grandmother-0.jpg", "").is(t, "all is there", 200, "")
	ask(b.SignIn("ada"), "POST", "/v1/factory-reset", confirm).is(t, "the owner", 202, "")
	b.Kill() // at some moment after the answer
	b.Restart()
	if left := found(); len(left) > 0 {
		t.Errorf("there is still %v", left)
	}
	b.Local("GET", "/local/label", nil, &after)
	if after.Serial != before.Serial || after.Code == before.Code || after.Code == "" || after.PairURI == before.PairURI || after.Spent {
		t.Errorf("the label was %+v, and is %+v", before, after)
	}
	if again, _ := about(); again == key {
		t.Error("it has the old key")
	}
	ask(ada, "GET", "/v1/me", "").is(t, "an old session", 401, "unauthenticated")
	ask(b.Nobody(), "POST", "/v1/session", fmt.Sprintf(`{"username":"ada","password":%q}`, daemontest.Password)).is(t, "an old account", 401, "unauthenticated")
	eve := b.Bind()
	eve.Grant("storage", "album_backup")
	put(t, eve, "new.jpg", "new")
}
