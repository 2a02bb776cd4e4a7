package daemon_test

import (
	"database/sql"
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/config"
	"yunbox.local/daemon/daemontest"
)

// sealedIn returns what stands sealed in the database, each value as its bytes.
func sealedIn(t *testing.T, state, query string) (list []string) {
	t.Helper()
	d, err := sql.Open("sqlite3", "file:"+filepath.Join(state, "box.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	rows, err := d.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		raw, err := hex.DecodeString(text)
		if err != nil || len(raw) == 0 {
			t.Fatal(text, err)
		}
		list = append(list, string(raw))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// R26 R27 R32: a value that its person corrected is in no file any more, sealed or not, when
// the box says that it is erased: as one that was deleted. Saying the same again erases
// nothing.
func TestAValueThatIsCorrectedIsNowhere(t *testing.T) {
	t.Parallel()
	b := daemontest.StartWith(t, t.TempDir(), nil, func(c *config.Config) { c.Tree = "auto" })
	ada := b.Bind()
	ada.Grant("storage", "album_backup", "profile_details", "device_info")
	var phone, tablet, token struct{ ID string }
	ask(ada, "POST", "/v1/devices", `{"name":"Wrongphone-4711","kind":"phone"}`).is(t, "device", 201, "").into(t, &phone)
	ask(ada, "POST", "/v1/devices", `{"name":"Lost-tablet-4711","kind":"phone"}`).is(t, "device", 201, "").into(t, &tablet)
	ask(ada, "POST", "/v1/tokens", `{"name":"Wrong-app-4711","scope":"files"}`).is(t, "app password", 201, "").into(t, &token)
	tell := func(email, number, model string) {
		ask(ada, "PUT", "/v1/me/profile/email", `{"value":"`+email+`"}`).is(t, "told", 204, "")
		ask(ada, "PUT", "/v1/me/profile/phone", `{"value":"`+number+`"}`).is(t, "told", 204, "")
		ask(ada, "PUT", "/v1/devices/"+phone.ID+"/about", `{"model":"`+model+`"}`).is(t, "described", 204, "")
	}
	tell("wrong@example.com", "+8613812345678", "Model A")
	ask(ada, "PUT", "/v1/devices/"+tablet.ID+"/about", `{"model":"Model B"}`).is(t, "described", 204, "")
	put(t, ada, "a.jpg", "a photo")
	ask(ada, "PUT", "/v1/me/username", `{"username":"Wrongname-4711"}`).is(t, "renamed", 204, "")
	forgotten(t, ada)

	b.Stop()
	gone := sealedIn(t, b.State, `SELECT hex(sealed) FROM profile_sensitive UNION ALL SELECT hex(sealed) FROM device_about UNION ALL SELECT hex(hash) FROM vault_index`)
	if len(gone) != 6 {
		t.Fatalf("%d values are sealed", len(gone))
	}
	b.Restart()
	gone = append(gone, "Wrongphone-4711", "Lost-tablet-4711", "Wrong-app-4711", "Wrongname-4711", "wrongname-4711")
	for _, w := range gone {
		if len(holding(t, b.State, w)) == 0 {
			t.Fatalf("%q is nowhere before", w)
		}
	}
	tell("wrong@example.com", "+8613812345678", "Model A") // nothing is corrected
	if r := ask(ada, "GET", "/v1/me/erasures", ""); strings.Contains(r.String(), "category") {
		t.Errorf("said again, and something is erased: %v", r)
	}

	tell("right@example.com", "+8613887654321", "Model C")
	ask(ada, "PATCH", "/v1/devices/"+phone.ID, `{"name":"phone"}`).is(t, "renamed", 200, "")
	ask(ada, "DELETE", "/v1/devices/"+tablet.ID, "").is(t, "removed", 204, "")
	ask(ada, "PATCH", "/v1/tokens/"+token.ID, `{"name":"app"}`).is(t, "renamed", 204, "")
	ask(ada, "POST", "/v1/session/proof", `{"password":"`+daemontest.Password+`"}`).is(t, "proof", 200, "")
	ask(ada, "PUT", "/v1/me/username", `{"username":"ada"}`).is(t, "renamed", 204, "")
	forgotten(t, ada)
	var left []string
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) { // the view follows by itself
		if left = holding(t, b.State, gone...); len(left) == 0 || time.Now().After(end) {
			break
		}
	}
	if len(left) > 0 {
		t.Errorf("still there: %v", left)
	}
	ask(ada, "POST", "/v1/me/profile/reveal", `{}`).is(t, "reveal", 200, "").has(t, "right@example.com", "+8613887654321")
}
