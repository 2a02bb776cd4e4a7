package main

import (
	"context"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/spake2plus"
)

func (a *app) bindCommand() *cobra.Command {
	var serial, code, uri, username string
	var fromStdin bool
	c := &cobra.Command{
		Use: "bind", Short: "Become the owner of a new box", Args: cobra.NoArgs,
		Long: `bind makes you the owner of a box that has none, and signs you in.

With --pair and the URI of the label's QR code the key of the box is checked
before the secret is sent. With --serial and --code neither leaves this computer:
both sides prove that they know the code, and that they see the same key, before
the name and the password are sent; that key is the one that is kept. A code that
was mistyped counts as a try; after five in ten minutes the box takes no codes for
an hour, while the QR code goes on working.

The box is found on the network by itself, or with --box.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if username == "" {
				return usagef("choose a name with --username")
			}
			var pair pairing
			var err error
			switch {
			case uri != "" && serial == "" && code == "":
				if pair, err = parsePairing(uri); err != nil {
					return err
				}
			case uri == "" && serial != "" && code != "":
				var ok bool
				if serial, ok = ident.ParseSerial(serial); !ok {
					return usagef("that is no serial number: it looks like YB26-4F7Q-9KMD, and its last character has to fit the others")
				}
				if code, ok = ident.ParseCode(code); !ok {
					return usagef("the verification code has 8 digits")
				}
			default:
				return usagef("bind needs either --pair URI, or --serial and --code from the label")
			}
			password, err := a.password(fromStdin, "Password for the new owner: ")
			if err != nil {
				return err
			}
			if uri == "" {
				return a.bindByCode(cmd.Context(), serial, code, username, password)
			}
			c, err := a.stranger(cmd.Context(), pair)
			if err != nil {
				return err
			}
			var s session
			in := map[string]any{"username": username, "password": password, "device": deviceName(), "secret": pair.secret}
			if err := c.call(cmd.Context(), "POST", "/v1/bind", in, &s); err != nil {
				return err
			}
			return a.signedIn(c, s, "the box is yours; signed in")
		},
	}
	f := c.Flags()
	f.StringVar(&serial, "serial", "", "serial number on the label")
	f.StringVar(&code, "code", "", "verification code on the label")
	f.StringVar(&uri, "pair", "", "URI of the label's QR code")
	f.StringVar(&username, "username", "", "your name on the box")
	f.BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	return c
}

// newBox finds the box that bindByCode is for, and the key that answers there. The key
// proves nothing yet, unless it is known from elsewhere.
func (a *app) newBox(ctx context.Context, serial string) (*client, error) {
	if a.box == "" && a.state == "" {
		u, err := discoverBy(ctx, "sn4", serial[len(serial)-4:])
		if err != nil {
			return nil, err
		}
		a.box = u.String()
	}
	base, known, err := a.findBox(ctx, pairing{})
	if err != nil {
		return nil, err
	}
	if base.Scheme != "https" {
		return nil, usagef("the key of the box is a part of the proof: name its https:// address")
	}
	if a.fingerprint != "" || known != (pin{}) {
		if known, err = a.choosePin(ctx, base, known); err != nil {
			return nil, err
		}
	} else if known, err = presentedPin(ctx, base.Host); err != nil {
		return nil, err
	}
	return newClient(base, known, ""), nil
}

// bindByCode is the prover's side of SPAKE2+ (docs/decisions/0034-binding.md). Nothing but
// the user name and a random point goes to a box that has not proved itself.
func (a *app) bindByCode(ctx context.Context, serial, code, username, password string) error {
	c, err := a.newBox(ctx, serial)
	if err != nil {
		return err
	}
	b := spake2plus.Binding{Key: c.pin, ID: c.pin.id(), Serial: serial, Username: username}
	secret, err := b.Secret(code)
	if err != nil {
		return err
	}
	p, err := spake2plus.Prove(b.Session(), secret)
	if err != nil {
		return err
	}
	var offer struct{ Run, Share, Confirm string }
	text := base64.RawURLEncoding
	if err := c.call(ctx, "POST", "/v1/bind/start", map[string]any{"method": spake2plus.Method, "username": username, "share": text.EncodeToString(p.Share())}, &offer); err != nil {
		return err
	}
	share, err := text.DecodeString(offer.Share)
	if err != nil {
		share = nil // which is no share either
	}
	proof, err := text.DecodeString(offer.Confirm)
	if err != nil {
		proof = nil
	}
	confirm, _, err := p.Finish(share, proof)
	if errors.Is(err, spake2plus.ErrConfirm) || errors.Is(err, spake2plus.ErrShare) {
		return &problem.Error{
			Kind: problem.Forbidden, Op: "bind", Title: "What answers there does not know this code", Err: err,
			Detail: "Either the serial number or the code was mistyped, or it is another box, or something on the network answers in its place.",
			Hint:   "Neither code nor password was sent. Compare serial number and code with the label, or use its QR code with --pair.",
		}
	}
	if err != nil {
		return err
	}
	var s session
	if err := c.call(ctx, "POST", "/v1/bind/finish", map[string]any{"run": offer.Run, "confirm": text.EncodeToString(confirm), "password": password, "device": deviceName()}, &s); err != nil {
		return err
	}
	return a.signedIn(c, s, "the box is yours; signed in")
}

// id is what a box with this key is called: the first 80 bits, base32.
func (p pin) id() string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(p[:10]))
}
