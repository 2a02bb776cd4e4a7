package api

import (
	"context"
	"net/http"

	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/report"
)

func (a *API) registerMaker() {
	register(a, route{
		Method: "GET", Path: "/v1/update-check", ID: "show-update-check", Tag: "box",
		Summary:     "What would be sent to ask for a newer version, and to whom",
		Description: "The application number, the type of system and the version, nothing else. Nothing is sent by asking this. Without an address nothing is ever sent.",
	}, httpd.AdminOnly, func(ctx context.Context, _ *struct{}) (*payloadAnswer, error) { return payloadOf(a.maker.Update(ctx)) })
	register(a, route{
		Method: "POST", Path: "/v1/update-check", ID: "check-for-update", Tag: "box",
		Summary: "Ask for a newer version with what was shown", Description: "Needs the asker's consent to `update_check`. The bytes are sent exactly as they were shown, or not at all.",
	}, httpd.AdminOnly, func(ctx context.Context, in *payloadInput) (*updateAnswer, error) {
		said, err := a.maker.CheckForUpdate(ctx, principal(ctx), in.Body.Payload)
		out := &updateAnswer{}
		out.Body.Latest, out.Body.Newer, out.Body.Version = said.Latest, said.Newer, a.box.Version
		return out, err
	})
	register(a, route{
		Method: "POST", Path: "/v1/update-check/number", ID: "renew-application-number", Tag: "box",
		Summary: "Take another application number", Description: "Nobody can tell then that the box asked before.",
	}, httpd.AdminOnly, func(ctx context.Context, _ *struct{}) (*payloadAnswer, error) {
		if err := a.maker.RenewNumber(ctx); err != nil {
			return nil, err
		}
		return payloadOf(a.maker.Update(ctx))
	})
	register(a, route{
		Method: "GET", Path: "/v1/statistics", ID: "show-statistics", Tag: "box",
		Summary:     "What would be sent as statistics, and to whom",
		Description: "Sums in steps of ten of those who consented to `statistics`. Nothing is sent by asking this. Without an address nothing is ever sent.",
	}, httpd.AdminOnly, func(ctx context.Context, _ *struct{}) (*payloadAnswer, error) { return payloadOf(a.maker.Sums(ctx)) })
	register(a, route{
		Method: "POST", Path: "/v1/statistics", ID: "send-statistics", Tag: "box", Status: 204,
		Summary: "Send statistics as they were shown", Description: "Needs the asker's consent to `statistics`. The bytes are sent exactly as they were shown, or not at all.",
	}, httpd.AdminOnly, func(ctx context.Context, in *payloadInput) (*struct{}, error) {
		return nil, a.maker.SendSums(ctx, principal(ctx), in.Body.Payload)
	})
}

type payloadAnswer struct {
	Body struct {
		URL     *string `json:"url" doc:"To whom; null: no address is set, nothing is ever sent"`
		Payload string  `json:"payload" doc:"The very bytes: JSON"`
	} `nameHint:"Payload"`
}

func payloadOf(s report.Shown, err error) (*payloadAnswer, error) {
	out := &payloadAnswer{}
	out.Body.URL, out.Body.Payload = orNull(s.URL), s.Payload
	return out, err
}

type payloadInput struct {
	Body struct {
		Payload string `json:"payload" maxLength:"4096" doc:"As it was shown"`
	} `nameHint:"PayloadShown"`
}

type updateAnswer struct {
	Body struct {
		Version string `json:"version" doc:"Of this box"`
		Latest  string `json:"latest"`
		Newer   bool   `json:"newer"`
	} `nameHint:"UpdateAnswer"`
}

func (l *Local) showPayload(show func(context.Context) (report.Shown, error)) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		out, err := payloadOf(show(r.Context()))
		if err != nil {
			return err
		}
		httpd.WriteJSON(w, http.StatusOK, out.Body)
		return nil
	}
}
