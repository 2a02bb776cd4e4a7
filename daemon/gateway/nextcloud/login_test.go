package nextcloud_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"yunbox.local/daemon/daemontest"
)

type begunLogin struct {
	Poll  struct{ Token, Endpoint string }
	Login string
}

func (w *world) beginLogin() (b begunLogin, flow string) {
	w.t.Helper()
	a := w.as(w.Nobody(), "POST", "/index.php/login/v2", "", "User-Agent", "Nextcloud-android/3.30\u200b").is(200)
	if err := json.Unmarshal([]byte(a.body), &b); err != nil {
		w.t.Fatal(err)
	}
	flow, ok := strings.CutPrefix(b.Login, w.URL+"/#/grant/")
	if !ok || b.Poll.Endpoint != w.URL+"/index.php/login/v2/poll" || len(b.Poll.Token) < 40 || len(flow) < 20 {
		w.t.Fatalf("%s", a.body)
	}
	return b, flow
}

func (w *world) poll(token string) answer {
	w.t.Helper()
	return w.as(w.Nobody(), "POST", "/index.php/login/v2/poll", "token="+url.QueryEscape(token), "Content-Type", "application/x-www-form-urlencoded")
}

func (w *world) phone(p *daemontest.Person, name string) (id string) {
	w.t.Helper()
	var d struct{ ID string }
	p.Call("POST", "/v1/devices", map[string]any{"name": name, "kind": "phone"}, &d)
	return d.ID
}

// R20: an app that signs in gets a token of the device that its person named, with
// the consents that were given for that device there, and no others.
func TestLogin(t *testing.T) {
	w := newWorld(t)
	w.ada.Withdraw("album_backup")
	b, flow := w.beginLogin()
	w.poll(b.Poll.Token).is(404)
	at := "/index.php/login/v2/flow/" + flow
	w.as(w.Nobody(), "GET", at, "").is(401)
	var shown struct{ Client, From string }
	if err := json.Unmarshal([]byte(w.do("GET", at, "").is(200).body), &shown); err != nil || shown.Client != "Nextcloud-android/3.30" || shown.From != "127.0.0.1" {
		t.Errorf("%+v, %v", shown, err)
	}
	device := w.phone(w.ada, "Ada's phone")
	var policy struct{ Revision string }
	w.ada.Call("GET", "/v1/policy", nil, &policy)
	w.ada.Call("PUT", "/v1/consents/album_backup", map[string]any{"granted": true, "policy_revision": policy.Revision, "device": device}, nil)
	w.do("POST", at, `{}`).is(400)
	w.do("POST", at, `{"device":"`+w.phone(w.bob, "Bob's phone")+`"}`).is(404)
	w.poll(b.Poll.Token).is(404)
	w.do("POST", at, `{"device":"`+device+`"}`).is(204)
	w.as(w.bob, "POST", at, `{"device":"`+device+`"}`).is(404)
	w.do("POST", at, `{"device":"`+device+`"}`).is(404) // once
	var got struct{ Server, LoginName, AppPassword string }
	if err := json.Unmarshal([]byte(w.as(w.Nobody(), "POST", "/index.php/login/v2/poll?token="+b.Poll.Token, "").is(200).body), &got); err != nil {
		t.Fatal(err)
	}
	if got.Server != w.URL || got.LoginName != "ada" || got.AppPassword == "" {
		t.Errorf("%+v", got)
	}
	w.poll(b.Poll.Token).is(404) // once
	w.do("GET", at, "").is(404)
	phone := w.ada.With(got.AppPassword)
	put := func(name string) answer {
		req := phone.Request("PUT", files+name, strings.NewReader("x"))
		req.Header.Del("Authorization")
		req.SetBasicAuth("ada", got.AppPassword)
		a := answer{t: t, what: name}
		var body []byte
		a.status, a.header, body = phone.Do(req)
		a.body = string(body)
		return a
	}
	put("IMG_20260501_123000.jpg").is(201)
	put("mmexport1598266474988.jpg").is(403)
	w.as(phone, "GET", "/v1/tokens", "").is(403) // files only
	w.do("PUT", files+"IMG_20260501_123001.jpg", "x").is(403)
	var list struct{ Items []struct{ Device string } }
	w.ada.Call("GET", "/v1/items?recursive=true", nil, &list)
	if len(list.Items) != 1 || list.Items[0].Device != device {
		t.Errorf("%+v", list)
	}
	w.ada.Call("DELETE", "/v1/devices/"+device, nil, nil) // the token goes with it
	put("IMG_20260501_123002.jpg").is(401)
}

// Who signs out before the app has asked lets nobody in.
func TestLoginNeedsItsSession(t *testing.T) {
	w := newWorld(t)
	b, flow := w.beginLogin()
	page := w.SignIn("ada")
	w.as(page, "POST", "/index.php/login/v2/flow/"+flow, `{"device":"`+w.phone(w.ada, "phone")+`"}`).is(204)
	page.Call("DELETE", "/v1/session", nil, nil)
	w.poll(b.Poll.Token).is(403)
	w.poll(b.Poll.Token).is(404)
}

func TestLoginsAreBounded(t *testing.T) {
	w := newWorld(t)
	refused := false
	for range 30 {
		if a := w.as(w.Nobody(), "POST", "/index.php/login/v2", ""); a.status == http.StatusTooManyRequests {
			refused = a.header.Get("Retry-After") != ""
			break
		}
	}
	if !refused {
		t.Error("one address began thirty logins")
	}
	refused = false
	for i := range 200 {
		if a := w.poll(strings.Repeat("A", 52)); a.status == http.StatusTooManyRequests {
			refused = i >= 100 && a.header.Get("Retry-After") != ""
			break
		}
	}
	if !refused {
		t.Error("one address guessed two hundred tokens, or far fewer")
	}
}
