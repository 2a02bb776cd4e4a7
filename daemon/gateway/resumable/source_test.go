package resumable_test

import (
	"strings"
	"testing"
)

// R06: an upload whose source nobody declared needs the consent that its names
// call for, also when it goes on after a restart; how the source was found is kept.
func TestFoundSourceOfAnUpload(t *testing.T) {
	t.Parallel()
	p := newPhone(t)
	for _, metadata := range []string{
		"path " + b64("Pictures/WeiXin/a.jpg"),
		"path " + b64("a.jpg") + ",source_path " + b64("Pictures/WeiXin/a.jpg"),
		"filename " + b64("mmexport1598266474988.jpg") + ",source " + b64("auto"),
	} {
		a := p.send("POST", "/v1/uploads", nil, "Upload-Length", "6", "Upload-Metadata", metadata)
		a.is(t, metadata, 403, "consent-required")
		if !strings.Contains(string(a.body), `"wechat_backup"`) {
			t.Errorf("the refusal does not name the purpose: %s", a.body)
		}
	}
	for query, disposition := range map[string]string{ // the IETF's form, and an ordinary POST
		"?path=Pictures/WeiXin/a.jpg":                       "",
		"?path=a.jpg&source_path=Pictures%2FWeiXin%2Fa.jpg": "",
		"?source=auto": `inline; filename="mmexport1598266474988.jpg"`,
		"":             `inline; filename="Pictures/WeiXin/a.jpg"`,
	} {
		for _, complete := range []string{"?1", "?0", ""} {
			r := p.who.Request("POST", "/v1/uploads"+query, strings.NewReader("abcdef"))
			if complete != "" {
				r.Header.Set("Upload-Complete", complete)
			}
			if disposition != "" {
				r.Header.Set("Content-Disposition", disposition)
			}
			if status, _, body := p.who.Do(r); status != 403 || !strings.Contains(string(body), `"wechat_backup"`) {
				t.Errorf("%s %s %s: %d %s", query, disposition, complete, status, body)
			}
		}
	}
	p.who.Grant("wechat_backup")
	location := p.create(6, "path "+b64("old/a.jpg")+",source_path "+b64("Pictures/WeiXin/a.jpg"))
	p.patch(location, 0, "abc").is(t, "the first half", 204, "")
	p.box.Restart()
	p.who.Withdraw("wechat_backup")
	p.patch(location, 3, "def").is(t, "after a withdrawal", 404, "not-found")
	p.who.Grant("wechat_backup")
	p.patch(location, 3, "def").is(t, "the second half of what went with the consent", 404, "not-found")
	location = p.create(6, "path "+b64("old/a.jpg")+",source_path "+b64("Pictures/WeiXin/a.jpg"))
	p.patch(location, 0, "abc").is(t, "the first half again", 204, "")
	p.box.Restart()
	p.patch(location, 3, "def").is(t, "the second half", 204, "")
	var page struct {
		Items []struct {
			Path, Source string
			SourceBy     string `json:"source_by"`
		}
	}
	p.who.Call("GET", "/v1/items?recursive=true&source=wechat", nil, &page)
	if len(page.Items) != 1 || page.Items[0].Path != "old/a.jpg" || page.Items[0].SourceBy != "folder" {
		t.Errorf("%+v", page)
	}
}
