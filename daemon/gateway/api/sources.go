package api

import (
	"context"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/source"
)

func (a *API) registerSources() {
	register(a, route{
		Method: "POST", Path: "/v1/sources", ID: "find-sources", Tag: "files", MaxBody: 512 << 10,
		Summary: "Where files of these names come from, and which purpose that needs",
		Description: "For a client that shows it before it sends anything. Up to 1,000 names, with their folders where the device tells them; " +
			"the box goes by the same tables as for an upload without a source, and keeps nothing of the question.",
	}, httpd.Files, a.sources)
}

type sourcesInput struct {
	Body struct {
		Paths []string `json:"paths" maxItems:"1000" example:"[\"Pictures/WeiXin/mmexport1598266474988.jpg\"]"`
	} `nameHint:"SourcesQuestion"`
}

type sourcesAnswer struct {
	Body struct {
		Sources []FoundSource `json:"sources" doc:"One for each name, in that order"`
	} `nameHint:"SourcesAnswer"`
}

// FoundSource is what a name says of where its file comes from.
type FoundSource struct {
	Source  string            `json:"source" enum:"album,wechat,qq,tim,camera,screenshot,download,other"`
	By      source.Confidence `json:"by" enum:"folder,name,guess,none" doc:"How sure that is; none goes with other"`
	Purpose consent.Purpose   `json:"purpose" doc:"The purpose that must be consented to" example:"album_backup"`
}

func (a *API) sources(_ context.Context, in *sourcesInput) (*sourcesAnswer, error) {
	out := &sourcesAnswer{}
	out.Body.Sources = make([]FoundSource, 0, len(in.Body.Paths))
	for _, p := range in.Body.Paths {
		found, by := source.Of(p)
		purpose, err := consent.PurposeOf(found)
		if err != nil {
			return nil, err
		}
		out.Body.Sources = append(out.Body.Sources, FoundSource{Source: found, By: by, Purpose: purpose})
	}
	return out, nil
}
