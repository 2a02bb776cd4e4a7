package thirdparty

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// weChat speaks WeChat's own form of OAuth 2.0 for web sites ("website application,
// WeChat login"): parameters of its own names, the secret in the address, errors with
// status 200, and no id token, so that who somebody is rests on the TLS of the answer.
type weChat struct {
	*service
	room *Room
}

// weChatPage is where a browser goes; the interface is another host.
const weChatPage = "https://open.weixin.qq.com/connect/qrconnect"

func (w *weChat) begin(_ context.Context, f *flow) (string, error) {
	// The fragment is part of what WeChat documents.
	q := url.Values{"appid": {w.ClientID}, "redirect_uri": {f.redirect}, "response_type": {"code"}, "scope": {"snsapi_login"}, "state": {f.state}}
	return weChatPage + "?" + q.Encode() + "#wechat_redirect", nil
}

func (w *weChat) finish(ctx context.Context, f *flow, answer url.Values) (subject, shown string, err error) {
	secret, err := w.room.opt.Secret(w.ID)
	if err != nil {
		return "", "", err
	}
	var token struct {
		weChatError
		AccessToken string `json:"access_token"`
		OpenID      string `json:"openid"`
	}
	err = w.get(w.room.recorded(ctx, f, "token"), "/sns/oauth2/access_token",
		url.Values{"appid": {w.ClientID}, "secret": {secret}, "code": {answer.Get("code")}, "grant_type": {"authorization_code"}}, &token)
	if err == nil {
		err = token.failure()
	}
	if err != nil {
		return "", "", err
	}
	// The unionid would know a person across all programs of one maker: it is not kept.
	if token.OpenID == "" || token.AccessToken == "" {
		return "", "", errors.New("there is no openid")
	}
	if f.linking.User == 0 {
		return token.OpenID, "", nil
	}
	var info struct {
		weChatError
		OpenID   string `json:"openid"`
		Nickname string `json:"nickname"` // and more, which is not read: gender, place, picture
	}
	err = w.get(w.room.recorded(ctx, f, "nickname"), "/sns/userinfo", url.Values{"access_token": {token.AccessToken}, "openid": {token.OpenID}}, &info)
	if err == nil {
		err = info.failure()
	}
	if err != nil || info.OpenID != token.OpenID {
		w.room.log.Info("a service did not say under which name somebody is known there", "service", w.ID)
		return token.OpenID, "", nil
	}
	return token.OpenID, info.Nickname, nil
}

type weChatError struct {
	Code int    `json:"errcode"`
	Text string `json:"errmsg"`
}

func (e weChatError) failure() error {
	if e.Code == 0 {
		return nil
	}
	return fmt.Errorf("errcode %d", e.Code) // its text repeats what was sent
}

func (w *weChat) get(ctx context.Context, path string, q url.Values, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.Issuer+path+"?"+q.Encode(), nil)
	if err != nil {
		return errors.New("the address is none") // err would name the secret
	}
	resp, err := w.client.Do(r)
	if err != nil {
		var outer *url.Error // whose address has the secret
		if errors.As(err, &outer) {
			return outer.Err
		}
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	// The answer says text/plain.
	if err := json.Unmarshal(body, into); err != nil {
		return errors.New("the answer is no JSON")
	}
	return nil
}
