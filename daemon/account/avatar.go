package account

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	_ "image/png" // a picture may be one
	"io"
	"time"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/vault"
)

const (
	// MaxAvatar is how long the picture of a person may be as it comes in, in bytes.
	MaxAvatar = 1 << 20
	// maxSide bounds what decoding takes, some 4 MiB; one is decoded at a time.
	maxSide = 512
)

// SetAvatar keeps a picture of the person of p, who consented by g
// (consent.ProfileDetails): a PNG or JPEG of at most 512 pixels a side. It is drawn anew as
// a JPEG, so that nothing is kept that the picture itself does not show: no place, no
// time, no name of a camera.
func (a *Accounts) SetAvatar(ctx context.Context, p ident.Principal, g consent.Grant, picture io.Reader) error {
	const op = "account.set_avatar"
	if err := full(p, op); err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(picture, MaxAvatar+1))
	if err != nil {
		return err
	}
	if len(data) > MaxAvatar {
		return &problem.Error{Kind: problem.TooLarge, Op: op, Title: "The picture is too large", Hint: "Send one of at most 1 MiB."}
	}
	a.drawing.Lock()
	data, err = redraw(op, data)
	a.drawing.Unlock()
	if err != nil {
		return err
	}
	return a.setSealed(ctx, op, p, g, avatar, data, "")
}

// redraw returns the picture as a JPEG without anything else that was in the file.
func redraw(op string, data []byte) ([]byte, error) {
	wrong := &problem.Error{Kind: problem.UnsupportedMedia, Op: op, Title: "That is no picture that the box can show",
		Hint: "Send a PNG or a JPEG."}
	conf, format, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil || format != "png" && format != "jpeg" {
		return nil, wrong
	}
	if conf.Width < 1 || conf.Height < 1 || conf.Width > maxSide || conf.Height > maxSide {
		return nil, invalid(op, "The picture has more than 512 pixels a side.", "Send a smaller one.")
	}
	from, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, wrong
	}
	to := image.NewRGBA(image.Rect(0, 0, from.Bounds().Dx(), from.Bounds().Dy()))
	draw.Draw(to, to.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
	draw.Draw(to, to.Bounds(), from, from.Bounds().Min, draw.Over)
	for quality := 90; quality >= 30; quality -= 20 {
		var out bytes.Buffer
		if err := jpeg.Encode(&out, to, &jpeg.Options{Quality: quality}); err != nil {
			return nil, err
		}
		if out.Len() <= vault.MaxPlain {
			return out.Bytes(), nil
		}
	}
	return nil, &problem.Error{Kind: problem.TooLarge, Op: op, Title: "The picture is too large", Hint: "Send one with less detail."}
}

// Avatar returns the picture of a person, a JPEG, and when they gave it; NotFound
// without one.
func (a *Accounts) Avatar(ctx context.Context, user ident.UserID) (picture []byte, changed time.Time, err error) {
	const op = "account.avatar"
	var sealed []byte
	var at int64
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT sealed, changed FROM profile WHERE user = ? AND field = 'avatar'`, int64(user)).Scan(&sealed, &at)
	})
	if isNoRows(err) {
		return nil, time.Time{}, notFound(op, "picture")
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	picture, err = a.vault.Open(user, profileGeneral(), string(avatar), sealed)
	if unreadable(err) {
		return nil, time.Time{}, notFound(op, "picture")
	}
	return picture, time.UnixMilli(at).UTC(), err
}

// HasAvatar reports whether a person gave a picture.
func (a *Accounts) HasAvatar(ctx context.Context, user ident.UserID) (has bool, err error) {
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM profile WHERE user = ? AND field = 'avatar')`, int64(user)).Scan(&has)
	})
	return has, err
}

// DeleteAvatar deletes the picture of the person of p, if there is one.
func (a *Accounts) DeleteAvatar(ctx context.Context, p ident.Principal) error {
	return a.DeleteDetail(ctx, p, avatar)
}
