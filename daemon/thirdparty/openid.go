package thirdparty

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// openID speaks OpenID Connect Core 1.0, the authorization code flow with PKCE.
type openID struct {
	*service
	room *Room

	mu    sync.Mutex
	known *discovered
}

// discovered is what a provider says about itself (OpenID Connect Discovery 1.0).
type discovered struct {
	*oidc.Provider
	namesItself bool // with each answer, RFC 9207
	style       oauth2.AuthStyle
	until       time.Time
}

// discoverEvery is how long it is believed.
const discoverEvery = 10 * time.Minute

func (o *openID) discover(ctx context.Context) (*discovered, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.room.opt.Now()
	if d := o.known; d != nil && now.Before(d.until) && now.After(d.until.Add(-2*discoverEvery)) {
		return d, nil
	}
	p, err := oidc.NewProvider(oidc.ClientContext(ctx, o.client), o.Issuer)
	if err != nil {
		return nil, err
	}
	var meta struct {
		Auth    string   `json:"authorization_endpoint"`
		Token   string   `json:"token_endpoint"`
		Keys    string   `json:"jwks_uri"`
		Names   bool     `json:"authorization_response_iss_parameter_supported"`
		Methods []string `json:"token_endpoint_auth_methods_supported"`
		PKCE    []string `json:"code_challenge_methods_supported"`
	}
	if err := p.Claims(&meta); err != nil {
		return nil, err
	}
	for _, at := range []string{meta.Auth, meta.Token, meta.Keys} {
		if u, err := url.Parse(at); err != nil || u.Scheme != "https" || u.Hostname() == "" {
			return nil, errors.New("one of its addresses does not begin with https")
		}
	}
	d := &discovered{Provider: p, namesItself: meta.Names, style: oauth2.AuthStyleInHeader, until: now.Add(discoverEvery)}
	if o.Kind == Apple || len(meta.Methods) > 0 && !slices.Contains(meta.Methods, "client_secret_basic") {
		d.style = oauth2.AuthStyleInParams
	}
	o.known = d
	return d, nil
}

func (o *openID) config(f *flow, secret string) *oauth2.Config {
	end := f.provider.Endpoint()
	end.AuthStyle = f.provider.style
	c := &oauth2.Config{ClientID: o.ClientID, ClientSecret: secret, Endpoint: end, RedirectURL: f.redirect, Scopes: []string{oidc.ScopeOpenID}}
	if f.linking.User != 0 {
		c.Scopes = append(c.Scopes, "email") // to be recognised by, once
	}
	return c
}

func (o *openID) begin(ctx context.Context, f *flow) (to string, err error) {
	if f.provider, err = o.discover(ctx); err != nil {
		return "", err
	}
	opts := []oauth2.AuthCodeOption{oidc.Nonce(f.nonce), oauth2.S256ChallengeOption(f.verifier)}
	if o.Kind == Apple { // insists on it where it is asked for anything
		opts = append(opts, oauth2.SetAuthURLParam("response_mode", "form_post"))
	}
	return o.config(f, "").AuthCodeURL(f.state, opts...), nil
}

func (o *openID) finish(ctx context.Context, f *flow, answer url.Values) (subject, shown string, err error) {
	// RFC 9207 §2.4: who names itself must be whom the browser was sent to.
	if iss := answer.Get("iss"); iss != "" && iss != o.Issuer || iss == "" && f.provider.namesItself {
		return "", "", errors.New("the answer is another provider's, or does not say whose it is")
	}
	secret, err := o.room.opt.Secret(o.ID)
	if err != nil {
		return "", "", err
	}
	if o.Kind == Apple {
		if secret, err = appleSecret(secret, o.TeamID, o.KeyID, o.ClientID, o.Issuer, o.room.opt.Now()); err != nil {
			return "", "", err
		}
	}
	conf := o.config(f, secret)
	client := oidc.ClientContext(o.room.recorded(ctx, f, "token"), o.client)
	token, err := conf.Exchange(client, answer.Get("code"), oauth2.VerifierOption(f.verifier))
	if err != nil {
		return "", "", err
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return "", "", errors.New("there is no id token")
	}
	keys := oidc.ClientContext(o.room.recorded(ctx, f, "keys"), o.client)
	id, err := f.provider.VerifierContext(keys, &oidc.Config{ClientID: o.ClientID, Now: o.room.opt.Now}).Verify(keys, raw)
	if err != nil {
		return "", "", err
	}
	var claims struct {
		Email string `json:"email"`
		Party string `json:"azp"`
	}
	if err := id.Claims(&claims); err != nil {
		return "", "", err
	}
	switch {
	case subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(f.nonce)) != 1:
		return "", "", errors.New("the id token answers another question")
	case claims.Party != "" && claims.Party != o.ClientID, len(id.Audience) > 1 && claims.Party == "":
		return "", "", errors.New("the id token was made for another party")
	}
	if f.linking.User != 0 && claims.Email == "" && f.provider.UserInfoEndpoint() != "" {
		return id.Subject, o.ask(ctx, f, conf, token, id.Subject), nil
	}
	return id.Subject, claims.Email, nil
}

// ask asks for the e-mail address of who connects their account, where the id token
// has none. That there is none is no failure.
func (o *openID) ask(ctx context.Context, f *flow, conf *oauth2.Config, token *oauth2.Token, subject string) string {
	client := oidc.ClientContext(o.room.recorded(ctx, f, "address"), o.client)
	info, err := f.provider.UserInfo(client, oauth2.StaticTokenSource(token))
	if err != nil || info.Subject != subject { // OpenID Connect Core §5.3.2
		o.room.log.Info("a service did not say under which address somebody is known there", "service", o.ID)
		return ""
	}
	return info.Email
}

// appleSecret makes what Apple takes in place of a client secret: a JWT that is signed
// with the key in PEM (PKCS #8, P-256) and good for five minutes.
func appleSecret(key, team, keyID, client, issuer string, now time.Time) (string, error) {
	block, _ := pem.Decode([]byte(key))
	if block == nil {
		return "", errors.New("the secret is no key in PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return "", errors.New("the secret is no key in PKCS #8")
	}
	signer, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || signer.Curve.Params().BitSize != 256 {
		return "", errors.New("the secret is no key on P-256")
	}
	header, err := json.Marshal(map[string]string{"alg": "ES256", "kid": keyID, "typ": "JWT"})
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(map[string]any{"iss": team, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "aud": issuer, "sub": client})
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, signer, sum[:])
	if err != nil {
		return "", err
	}
	var sig [64]byte
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(sig[:]), nil
}

// reason is an error as the log may have it: what a service answered may name people,
// and addresses may carry codes.
func (r *Room) reason(err error) error {
	var retrieve *oauth2.RetrieveError
	var outer *url.Error
	switch {
	case errors.As(err, &retrieve):
		code := retrieve.ErrorCode
		if len(code) > 64 || strings.Trim(code, "abcdefghijklmnopqrstuvwxyz_") != "" {
			code = "unknown"
		}
		status := 0
		if retrieve.Response != nil {
			status = retrieve.Response.StatusCode
		}
		return fmt.Errorf("%d %s: %s", status, http.StatusText(status), code)
	case errors.As(err, &outer):
		return outer.Err
	}
	var mismatch *oidc.IssuerMismatchError
	var expired *oidc.TokenExpiredError
	if errors.As(err, &mismatch) || errors.As(err, &expired) {
		return err
	}
	if strings.HasPrefix(err.Error(), "oidc: ") || strings.Contains(err.Error(), "{") || len(err.Error()) > 200 {
		text, _, _ := strings.Cut(err.Error(), "{")
		if len(text) > 100 {
			text = text[:100]
		}
		return errors.New(strings.ToValidUTF8(text, ""))
	}
	return err
}
