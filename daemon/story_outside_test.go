package daemon_test

import (
	"slices"
	"strings"
	"testing"

	"yunbox.local/daemon/daemontest"
)

type disclosed struct {
	Disclosures []struct {
		Seq                                                   int64
		About, Kind, Recipient, Why, Basis, Authority, Object string
		By                                                    *string
		Categories                                            []string
	}
	Next *int64
}

// kinds are what the register says to a person, the oldest first.
func kindsOf(t *testing.T, p *daemontest.Person, path string) (kinds string, all disclosed) {
	t.Helper()
	ask(p, "GET", path, "").is(t, "the register", 200, "").into(t, &all)
	var list []string
	for _, d := range all.Disclosures {
		list = append(list, d.Kind)
	}
	slices.Reverse(list)
	return strings.Join(list, " "), all
}

// R38: what leaves the box is written down, for whom it is about and, without them, for
// who runs it.
func TestWhatLeavesTheBoxIsWrittenDown(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("storage", "album_backup")
	put(t, ada, "a.jpg", "a photo")
	addCopy(t, b, t.TempDir()).run()
	bob := b.AddPerson("bob")

	e := prepareExport(t, ada, `{}`)
	archive := "/v1/me/exports/" + e.ID + "/archive"
	ask(ada, "HEAD", archive, "").is(t, "looking at it takes nothing along", 200, "")
	for range 2 {
		ask(ada, "GET", archive, "", "Range", "bytes=1-100").is(t, "a part", 206, "")
	}
	kinds, all := kindsOf(t, ada, "/v1/me/disclosures")
	if kinds != "second_copy export" {
		t.Fatalf("it says %q", kinds)
	}
	if d := all.Disclosures[0]; d.About != "person" || d.Object != e.ID || d.By == nil || *d.By != ada.ID || d.Basis != "person" {
		t.Errorf("the export: %+v", d)
	}
	if d := all.Disclosures[1]; d.About != "everyone" || d.Basis != "owner" {
		t.Errorf("the copy: %+v", d)
	}
	if kinds, _ := kindsOf(t, bob, "/v1/me/disclosures"); kinds != "" {
		t.Errorf("bob, who came later, is told of %q", kinds)
	}
	ask(bob, "GET", "/v1/disclosures", "").is(t, "bob looks at the whole register", 403, "forbidden")
	ask(bob, "POST", "/v1/me/exports", `{}`).is(t, "bob's export", 202, "")
	fetchExport(t, bob, `{}`)
	kinds, all = kindsOf(t, ada, "/v1/disclosures")
	if kinds != "second_copy export export" || all.Disclosures[0].By != nil || all.Disclosures[0].Object != "" {
		t.Errorf("ada, who runs the box, sees %q: %+v", kinds, all.Disclosures[0])
	}
	if kinds, _ := kindsOf(t, ada, "/v1/me/disclosures"); kinds != "second_copy export" {
		t.Errorf("of her own: %q", kinds)
	}
	var verified struct {
		Disclosure struct {
			Entries int64
			Bad     *struct{}
		}
	}
	b.Local("GET", "/local/audit/verify", nil, &verified)
	if verified.Disclosure.Entries != 3 || verified.Disclosure.Bad != nil {
		t.Errorf("%+v", verified)
	}
}
