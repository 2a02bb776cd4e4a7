package api

import (
	"context"

	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage"
)

func (a *API) registerWanted() {
	register(a, route{
		Method: "POST", Path: "/v1/blobs/wanted", ID: "want-blobs", Tag: "files", MaxBody: 128 << 10,
		Summary: "Take back that the asker deleted these contents",
		Description: "Up to 1,000 hashes, as the ledger of a device names them with the kind `deleted`. What lies in the trash is restored at once. " +
			"What was deleted for good is taken again when a device offers it the next time, by whatever protocol: most of them have no word for `again`. " +
			"Contents that the asker did not delete, or has, are left out of the answer.",
	}, httpd.Files, a.want)
}

type wantInput struct {
	Body struct {
		SHA256 []string `json:"sha256" maxItems:"1000" pattern:"^[0-9a-f]{64}$" patternDescription:"64 lower-case hex digits"`
	} `nameHint:"WantQuestion"`
}

type wantAnswer struct {
	Body struct {
		Wanted []WantedRef `json:"wanted"`
	} `nameHint:"WantAnswer"`
}

// WantedRef is a content that its owner had deleted and wants again.
type WantedRef struct {
	SHA256 storage.Ref   `json:"sha256"`
	Item   *ident.ItemID `json:"item" nullable:"true" doc:"The file that was restored from the trash; null: it is taken again when a device offers it"`
	Path   *string       `json:"path" nullable:"true" doc:"Where that file is now"`
}

func (a *API) want(ctx context.Context, in *wantInput) (*wantAnswer, error) {
	out := &wantAnswer{}
	out.Body.Wanted = []WantedRef{}
	for _, s := range in.Body.SHA256 {
		ref, err := storage.ParseRef(s)
		if err != nil {
			return nil, err
		}
		it, wanted, err := a.catalog.Want(ctx, principal(ctx).User, ref)
		if err != nil {
			return nil, err
		}
		if !wanted {
			continue
		}
		w := WantedRef{SHA256: ref}
		if it.ID != 0 {
			w.Item, w.Path = &it.ID, &it.Path
		}
		out.Body.Wanted = append(out.Body.Wanted, w)
	}
	return out, nil
}
