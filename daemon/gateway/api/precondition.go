package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"yunbox.local/daemon/gateway/content"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// conditions holds If-Match and If-None-Match of a PUT against the file that has
// the name now (RFC 9110 §13.1.1, §13.1.2), and has ingest hold them again in
// the transaction that gives the name, where nobody can come between.
func (a *API) conditions(r *http.Request, meta *ingest.Meta) error {
	match, noneMatch := headerList(r, "If-Match"), headerList(r, "If-None-Match")
	if match == "" && noneMatch == "" {
		return nil
	}
	item, err := a.catalog.Lookup(r.Context(), principal(r.Context()).User, meta.Path)
	if err != nil && !errors.Is(err, &problem.Error{Kind: problem.NotFound}) {
		return err
	}
	current := item.Ref // zero: there is none
	if err := checkIfMatch(match, current); err != nil {
		return err
	}
	if noneMatch != "" && !current.IsZero() && content.HasTag(noneMatch, current) {
		return nameTaken()
	}
	meta.IfAbsent = noneMatch != "" && current.IsZero()
	if match != "" {
		meta.IfRef = current
	}
	return nil
}

// mustBeAbsent is conditions for "If-None-Match: *", of one file among many.
func (a *API) mustBeAbsent(ctx context.Context, meta *ingest.Meta) error {
	_, err := a.catalog.Lookup(ctx, principal(ctx).User, meta.Path)
	switch {
	case err == nil:
		return nameTaken()
	case !errors.Is(err, &problem.Error{Kind: problem.NotFound}):
		return err
	}
	meta.IfAbsent = true
	return nil
}

func nameTaken() error {
	return preconditionFailed("A file of that name is there already.", "Take another name, or leave out If-None-Match to keep the old content as a version.")
}

// checkIfMatch holds an If-Match header, "" for none, against the content that
// is there, zero for none.
func checkIfMatch(match string, current storage.Ref) error {
	if match == "" || !current.IsZero() && content.HasTag(match, current) {
		return nil
	}
	return preconditionFailed("The file is not the one that was expected.", "Read it again, then decide.")
}

func headerList(r *http.Request, name string) string {
	return strings.Join(r.Header.Values(name), ",")
}

func preconditionFailed(detail, hint string) error {
	return &problem.Error{Kind: problem.PreconditionFailed, Op: "api.precondition", Detail: detail, Hint: hint}
}
