package api

import (
	"context"
	"net/http"
	"strconv"

	"yunbox.local/daemon/disclosure"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

func (a *API) registerDisclosures() {
	register(a, route{
		Method: "GET", Path: "/v1/me/disclosures", ID: "list-my-disclosures", Tag: "rights",
		Summary:     "Each time data of the asker left the box, the newest first",
		Description: "To whom, which data, why, and on whose authority. It needs no consent and no accepted policy.",
	}, httpd.SignedIn, func(ctx context.Context, in *disclosuresInput) (*disclosuresAnswer, error) {
		list, err := a.outside.Of(ctx, principal(ctx).User, in.Before, in.Limit)
		return disclosuresOf(list, in.Limit), err
	})
	register(a, route{
		Method: "GET", Path: "/v1/disclosures", ID: "list-disclosures", Tag: "rights",
		Summary:     "Everything that left the box, the newest first",
		Description: "Whom an entry is about is not said where that is one person.",
	}, httpd.AdminOnly, func(ctx context.Context, in *disclosuresInput) (*disclosuresAnswer, error) {
		list, err := a.outside.All(ctx, in.Before, in.Limit)
		return disclosuresOf(list, in.Limit), err
	})
}

type disclosuresInput struct {
	Before int64 `query:"before" minimum:"0" doc:"Entries older than that one; 0: from the newest"`
	Limit  int   `query:"limit" minimum:"1" maximum:"200" default:"50"`
}

type disclosuresAnswer struct {
	Body struct {
		Disclosures []DisclosureEntry `json:"disclosures"`
		Next        *int64            `json:"next" doc:"before of the next page; null: this is the last"`
	} `nameHint:"Disclosures"`
}

// DisclosureEntry is one thing that left the box.
type DisclosureEntry struct {
	Seq        int64         `json:"seq" minimum:"1"`
	Time       moment        `json:"time"`
	About      string        `json:"about" enum:"person,everyone,nobody"`
	Kind       string        `json:"kind" enum:"export,second_copy,email,sign_in_ask,sign_in,link,update_check,update_fetch,statistics,publication"`
	Recipient  string        `json:"recipient" doc:"The name of a host, or words"`
	Categories []string      `json:"categories" doc:"Which data"`
	Why        string        `json:"why"`
	Basis      string        `json:"basis" enum:"person,consent,clause,owner" doc:"On whose authority: of the person, of a consent, of a clause of the policy, of who runs the box"`
	Authority  *string       `json:"authority" doc:"The purpose and entry of the consent, or the clause; null: it needs none"`
	By         *ident.UserID `json:"by" doc:"Who had it done; null: the box itself, whoever administers its computer, or not said"`
	Object     *string       `json:"object" doc:"Of what it was: an export, an incident, a second copy"`
}

func disclosuresOf(list []disclosure.Recorded, limit int) *disclosuresAnswer {
	out := &disclosuresAnswer{}
	out.Body.Disclosures = make([]DisclosureEntry, 0, len(list))
	for _, e := range list {
		d := DisclosureEntry{Seq: e.Seq, Time: moment(e.Time), About: "nobody", Kind: string(e.Kind), Recipient: e.Recipient, Categories: append([]string{}, e.Categories...),
			Why: e.Why, Basis: string(e.Basis), Authority: orNull(e.Authority), By: orNull(e.Actor), Object: orNull(e.Object)}
		switch {
		case e.Everyone:
			d.About = "everyone"
		case e.User != 0:
			d.About = "person"
		}
		out.Body.Disclosures = append(out.Body.Disclosures, d)
	}
	if len(list) == limit {
		out.Body.Next = &list[len(list)-1].Seq
	}
	return out
}

func (l *Local) disclosures(w http.ResponseWriter, r *http.Request) error {
	limit, before := 50, int64(0)
	q := r.URL.Query()
	for name, into := range map[string]func(int64){"limit": func(n int64) { limit = int(n) }, "before": func(n int64) { before = n }} {
		if s := q.Get(name); s != "" {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil || n < 1 || name == "limit" && n > disclosure.MaxPage {
				return &problem.Error{Kind: problem.Invalid, Op: "api.local", Title: "That number of entries cannot be shown", Hint: "limit is between 1 and 200."}
			}
			into(n)
		}
	}
	list, err := l.api.outside.All(r.Context(), before, limit)
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusOK, disclosuresOf(list, limit).Body)
	return nil
}
