package daemon_test

import (
	"crypto"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/daemontest"
)

// R20 R21 R22: nobody was asked, so nothing is taken, not a byte; one switch
// opens one door; switching off stops what runs; and every decision leaves a
// receipt that only this box can have signed.
func TestConsentFromTheFirstQuestionToTheLastReceipt(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()

	// Never asked. The head of the request is enough for the answer, whether the
	// phone waits for "100 Continue" or for nothing at all.
	for _, expect := range []string{"Expect: 100-continue\r\n", ""} {
		c := raw(t, b)
		fmt.Fprintf(c, "PUT /v1/files/WeChat/a.jpg?source=wechat HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 100000000\r\n%s\r\n",
			hostOf(t, b), ada.Token, expect)
		r := read(t, c).is(t, "never asked", 403, "consent-required") // not a 100 first
		var p struct {
			Purpose        string
			PolicyRevision string `json:"policy_revision"`
			GrantURL       string `json:"grant_url"`
			Page, Hint     string
		}
		r.into(t, &p)
		if p.Purpose != "wechat_backup" || p.GrantURL != "/v1/consents/wechat_backup" || p.PolicyRevision == "" || p.Page == "" || p.Hint == "" {
			t.Errorf("the refusal does not say what to do: %v", r)
		}
		if r.header.Get("Connection") != "close" {
			t.Error("the box would go on reading the body that it refused")
		}
	}
	var state struct {
		Consents []struct {
			Purpose, State string
			Granted        bool
		}
	}
	ask(ada, "GET", "/v1/consents", "").is(t, "state", 200, "").into(t, &state)
	if len(state.Consents) == 0 {
		t.Error("no purpose is shown")
	}
	for _, c := range state.Consents {
		if c.Granted || c.State != "never" {
			t.Errorf("%s is %s before anybody decided", c.Purpose, c.State)
		}
	}

	// What is no decision changes nothing.
	grant := func(purpose, body string) reply { return ask(ada, "PUT", "/v1/consents/"+purpose, body) }
	for what, r := range map[string]reply{
		"a policy that nobody wrote":   grant("wechat_backup", `{"granted":true,"policy_revision":"99"}`),
		"no policy at all":             grant("wechat_backup", `{"granted":true}`),
		"a yes that was left out":      grant("wechat_backup", `{"policy_revision":"1"}`),
		"a no by the wrong door":       grant("wechat_backup", `{"granted":false,"policy_revision":"1"}`),
		"a purpose of nobody":          grant("mind_reading", `{"granted":true,"policy_revision":"1"}`),
		"a purpose without a room":     grant("map_album", `{"granted":true,"policy_revision":"1"}`),
		"a device that does not exist": grant("wechat_backup", `{"granted":true,"policy_revision":"1","device":"0000000000001"}`),
	} {
		if r.status < 400 || r.status >= 500 && r.status != 501 || r.kind() == "" {
			t.Errorf("%s: %v", what, r)
		}
	}
	put := func(path, source string) reply {
		return ask(ada, "PUT", "/v1/files/"+path+"?source="+source, "photo "+path)
	}
	put("a.jpg", "wechat").is(t, "after what was no decision", 403, "consent-required")

	// One switch, one door.
	var given, taken json.RawMessage
	grant("wechat_backup", `{"granted":true,"policy_revision":"1"}`).is(t, "the decision", 200, "").into(t, &given)
	if r := put("a.jpg", "wechat"); r.status != 201 {
		t.Fatal(r)
	}
	for _, source := range []string{"album", "qq", "camera", "other"} {
		put("b.jpg", source).is(t, "a yes to WeChat used for "+source, 403, "consent-required")
	}

	// Switched off in the middle: the connection that sends hears of it.
	c := raw(t, b)
	fmt.Fprintf(c, "PUT /v1/files/WeChat/long.mp4?source=wechat HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 100000000\r\nExpect: 100-continue\r\n\r\n",
		hostOf(t, b), ada.Token)
	if r := readContinue(t, c); !strings.HasPrefix(r, "HTTP/1.1 100") {
		t.Fatalf("granted, and the box says %q", r)
	}
	if _, err := c.Write(make([]byte, 300<<10)); err != nil {
		t.Fatal(err)
	}
	ask(ada, "DELETE", "/v1/consents/wechat_backup", "").is(t, "withdrawal", 200, "").into(t, &taken)
	read(t, c).is(t, "withdrawn in the middle", 403, "consent-required")
	ask(ada, "GET", "/v1/files/WeChat/long.mp4", "").is(t, "the half of a film", 404, "not-found")
	put("c.jpg", "wechat").is(t, "after the withdrawal", 403, "consent-required")
	// What was kept before stays readable, and one's own.
	if r := ask(ada, "GET", "/v1/files/a.jpg", ""); r.status != 200 || string(r.body) != "photo a.jpg" {
		t.Errorf("earlier processing was undone: %v", r)
	}

	// The receipts are the box's, about this person, and cannot be bent.
	key := authority(t, b)
	for what, data := range map[string]json.RawMessage{"granted": given, "withdrawn": taken} {
		r, err := consent.VerifyReceipt(key, data)
		if err != nil {
			t.Errorf("the receipt that says %s: %v", what, err)
			continue
		}
		if string(r.Event.State) != what || r.Principal.String() != ada.ID || r.Purpose.ID != "wechat_backup" || r.Event.Actor != r.Principal {
			t.Errorf("the receipt that should say %s: %+v", what, r)
		}
		bent := strings.Replace(string(data), `"wechat_backup"`, `"album_backup"`, 1)
		if _, err := consent.VerifyReceipt(key, []byte(bent)); err == nil {
			t.Error("a receipt for another purpose is taken for genuine")
		}
		if _, err := consent.VerifyReceipt(authority(t, daemontest.Start(t)), data); err == nil {
			t.Error("another box's key proves the receipt")
		}
	}
	var list struct{ Receipts []json.RawMessage }
	ask(ada, "GET", "/v1/consents/wechat_backup/receipts", "").is(t, "receipts", 200, "").into(t, &list)
	if len(list.Receipts) != 2 {
		t.Errorf("%d receipts of two decisions", len(list.Receipts))
	}
	for _, data := range list.Receipts {
		if _, err := consent.VerifyReceipt(key, data); err != nil {
			t.Errorf("a receipt that was read again: %v", err)
		}
	}
	var verdict struct{ Bad *json.RawMessage }
	b.Local("GET", "/local/audit/verify", nil, &verdict)
	if verdict.Bad != nil {
		t.Errorf("the record is not whole: %s", *verdict.Bad)
	}
}

// readContinue reads an interim answer, up to its empty line and no further.
func readContinue(t *testing.T, c net.Conn) string {
	t.Helper()
	var head []byte
	for one := make([]byte, 1); !strings.HasSuffix(string(head), "\r\n\r\n"); {
		if _, err := c.Read(one); err != nil {
			t.Fatalf("%v after %q", err, head)
		}
		head = append(head, one[0])
	}
	return string(head)
}

// authority is the key with which the box signs: the one that its label names
// and that every connection shows.
func authority(t *testing.T, b *daemontest.Box) crypto.PublicKey {
	t.Helper()
	c, ok := raw(t, b).(*tls.Conn)
	if !ok {
		t.Fatal("no TLS")
	}
	chain := c.ConnectionState().PeerCertificates
	ca := chain[len(chain)-1]
	if !ca.IsCA {
		t.Fatal("the chain does not show the box's authority")
	}
	return ca.PublicKey
}

// R22: a decision for one device is about that device.
func TestConsentForOneDevice(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	var phone, tablet struct{ ID string }
	ask(ada, "POST", "/v1/devices", `{"name":"phone","kind":"phone"}`).is(t, "a phone", 201, "").into(t, &phone)
	ask(ada, "POST", "/v1/devices", `{"name":"tablet","kind":"tablet"}`).is(t, "a tablet", 201, "").into(t, &tablet)
	put := func(device string) reply {
		return ask(ada, "PUT", "/v1/files/"+device+time.Now().Format("150405.000000000")+".jpg?source=album&device="+device, "x")
	}
	ask(ada, "PUT", "/v1/consents/album_backup", `{"granted":true,"policy_revision":"1","device":"`+phone.ID+`"}`).is(t, "for the phone", 200, "")
	if r := put(phone.ID); r.status/100 != 2 {
		t.Error(r)
	}
	put(tablet.ID).is(t, "the tablet by the phone's consent", 403, "consent-required")
	ask(ada, "PUT", "/v1/consents/album_backup", `{"granted":true,"policy_revision":"1"}`).is(t, "for all", 200, "")
	if r := put(tablet.ID); r.status/100 != 2 {
		t.Error(r)
	}
	ask(ada, "DELETE", "/v1/consents/album_backup?device="+tablet.ID, "").is(t, "not the tablet", 200, "")
	put(tablet.ID).is(t, "the tablet after its withdrawal", 403, "consent-required")
	if r := put(phone.ID); r.status/100 != 2 {
		t.Error(r)
	}
	// The tablet's app cannot get around that in the name of the phone.
	var app struct{ Token string }
	ask(ada, "POST", "/v1/tokens", `{"name":"camera","scope":"files","device":"`+tablet.ID+`"}`).is(t, "a token", 201, "").into(t, &app)
	tus := []string{"Tus-Resumable", "1.0.0", "Upload-Length", "1", "Upload-Metadata"}
	meta := "path " + b64("c.jpg") + ",source " + b64("album")
	camera := ada.With(app.Token)
	ask(camera, "PUT", "/v1/files/c.jpg?source=album", "x").is(t, "as itself", 403, "consent-required")
	ask(camera, "PUT", "/v1/files/c.jpg?source=album&device="+phone.ID, "x").is(t, "as the phone", 403, "forbidden")
	ask(camera, "POST", "/v1/uploads", "", append(tus, meta)...).is(t, "as itself, resumable", 403, "consent-required")
	ask(camera, "POST", "/v1/uploads", "", append(tus, meta+",device "+b64(phone.ID))...).is(t, "as the phone, resumable", 403, "forbidden")
	// The person takes all back: the earlier yes for one device is older.
	ask(ada, "DELETE", "/v1/consents/album_backup", "").is(t, "nothing any more", 200, "")
	put(phone.ID).is(t, "the phone after the withdrawal for all", 403, "consent-required")
}
