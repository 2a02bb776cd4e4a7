package immich_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// What a program asks before it sends anything.
func TestTheServerIntroducesItself(t *testing.T) {
	w := newWorld(t)
	var signpost struct{ API struct{ Endpoint string } }
	w.as(w.Nobody(), "GET", "/.well-known/immich", nil).into(&signpost)
	if signpost.API.Endpoint != "/api" {
		t.Errorf("%+v", signpost)
	}
	var pong struct{ Res string }
	w.as(w.Nobody(), "GET", "/api/server/ping", nil).into(&pong)
	var version struct{ Major, Minor, Patch int }
	w.as(w.Nobody(), "GET", "/api/server/version", nil).into(&version)
	var about struct{ Version string }
	w.json("GET", "/api/server/about", "").into(&about)
	if pong.Res != "pong" || version.Major != 3 || about.Version != fmt.Sprintf("v%d.%d.%d", version.Major, version.Minor, version.Patch) {
		t.Errorf("%+v %+v %+v", pong, version, about)
	}
	var types struct{ Image, Video, Sidecar []string }
	w.as(w.Nobody(), "GET", "/api/server/media-types", nil).into(&types)
	if !slices.Contains(types.Image, ".heic") || !slices.Contains(types.Video, ".mp4") || !slices.Contains(types.Sidecar, ".xmp") {
		t.Errorf("%+v", types)
	}
	var features map[string]bool
	w.as(w.Nobody(), "GET", "/api/server/features", nil).into(&features)
	if features["smartSearch"] || features["map"] || !features["trash"] {
		t.Errorf("%+v", features)
	}
	var key struct{ Permissions []string }
	w.json("GET", "/api/api-keys/me", "").into(&key)
	if !slices.Equal(key.Permissions, []string{"all"}) {
		t.Errorf("%+v", key)
	}
	w.full(w.ada).SetQuota(1 << 30)
	w.upload("a.jpg", "12345")
	var me struct {
		ID, Name, Email, CreatedAt string
		IsAdmin                    bool
		Quota                      int64 `json:"quotaSizeInBytes"`
		Usage                      int64 `json:"quotaUsageInBytes"`
	}
	w.json("GET", "/api/users/me", "").into(&me)
	if me.Name != "ada" || me.IsAdmin || me.Quota != 1<<30 || me.Usage != 5 || len(me.ID) != 36 || !strings.HasPrefix(me.CreatedAt, "20") {
		t.Errorf("%+v", me)
	}
	// What immich-go orders before and after an upload is answered: nothing runs.
	var job struct {
		QueueStatus struct{ IsActive, IsPaused bool }
	}
	w.json("PUT", "/api/jobs/thumbnailGeneration", `{"command":"pause","force":false}`).into(&job)
	if job.QueueStatus.IsActive || job.QueueStatus.IsPaused {
		t.Errorf("%+v", job)
	}
}

// R34: nothing opens without a token, and refusals have the protocol's form.
func TestWhoMayAsk(t *testing.T) {
	w := newWorld(t)
	id, _ := w.upload("a.jpg", "ada's")
	for _, route := range []string{
		"GET /api/server/about", "GET /api/users/me", "GET /api/api-keys/me", "POST /api/assets", "POST /api/assets/bulk-upload-check",
		"GET /api/assets/statistics", "GET /api/assets/" + id, "PUT /api/assets/" + id, "GET /api/assets/" + id + "/original", "POST /api/search/metadata", "GET /api/albums",
		"POST /api/albums", "PUT /api/albums/" + id + "/assets", "PUT /api/jobs/x",
	} {
		method, path, _ := strings.Cut(route, " ")
		w.as(w.Nobody(), method, path, nil).refuses(401, "unauthenticated")
	}
	w.as(w.ada.With("yb_wrong"), "GET", "/api/users/me", nil).refuses(401, "unauthenticated")
	for header, value := range map[string]string{"Authorization": "Bearer " + w.ada.Token, "X-Api-Key": w.ada.Token} {
		w.as(w.Nobody(), "GET", "/api/users/me", nil, header, value).is(200)
	}
	// A wrong Authorization is not helped by a right key.
	w.as(w.ada, "GET", "/api/users/me", nil, "Authorization", "Bearer yb_wrong").refuses(401, "unauthenticated")
	w.as(w.bob, "GET", "/api/assets/"+id, nil).refuses(404, "not-found")
	w.as(w.bob, "PUT", "/api/assets/"+id, strings.NewReader(`{}`)).refuses(404, "not-found")
	// What is not there is said so, and nothing ever redirects.
	for _, route := range []string{
		"GET /api", "GET /api/", "GET /api/timeline/buckets", "POST /api/sync/stream", "POST /api/auth/login", "DELETE /api/assets", "GET /api/albums/",
		"GET /api/assets/" + id + "/thumbnail", "GET /api/assets/statistics/",
	} {
		method, path, _ := strings.Cut(route, " ")
		w.as(w.ada, method, path, nil).refuses(404, "not-found")
	}
	for _, id := range []string{"x", "00000000-0000-0000-0000-000000000000", strings.ToUpper(id) + "0", strings.Replace(id, "-8", "-4", 1)} {
		w.json("GET", "/api/assets/"+id, "").refuses(404, "not-found")
	}
}

// R13: what need not be sent, by SHA-1 in either form, of one's own only.
func TestBulkUploadCheck(t *testing.T) {
	w := newWorld(t)
	one, _ := w.upload("one.jpg", "one")
	w.full(w.bob).Grant("storage", "album_backup")
	w.post(w.bob, "", form(file("bob.jpg", "bob's"))).is(201)
	var out struct {
		Results []struct {
			ID, Action, Reason, AssetID string
			IsTrashed                   bool
			Deleted                     time.Time
		}
	}
	question := fmt.Sprintf(`{"assets":[{"id":"/a","checksum":%q},{"id":"/b","checksum":%q},{"id":"/c","checksum":%q},{"id":"/d","checksum":%q}]}`,
		hexSum("one"), base64Sum("one"), hexSum("new"), hexSum("bob's"))
	w.json("POST", "/api/assets/bulk-upload-check", question).into(&out)
	if len(out.Results) != 4 {
		t.Fatalf("%+v", out)
	}
	for i, want := range []string{"reject", "reject", "accept", "accept"} {
		r := out.Results[i]
		if r.ID != []string{"/a", "/b", "/c", "/d"}[i] || r.Action != want || (want == "reject") != (r.AssetID == one) || (want == "reject") != (r.Reason == "duplicate") || r.IsTrashed {
			t.Errorf("%+v", r)
		}
	}
	// What lies in the trash need not be sent, and is no asset either. Of what is gone
	// nobody says that it is here: programs delete their own copy by that word.
	it := w.items(w.ada)["Photos/2021/02/one.jpg"]
	w.ada.Call("DELETE", "/v1/files/Photos/2021/02/one.jpg", nil, nil)
	for _, trashed := range []bool{true, false} {
		out.Results = nil
		w.json("POST", "/api/assets/bulk-upload-check", question).into(&out)
		for _, r := range out.Results[:2] {
			if rejected := r.Action == "reject" && r.Reason == "deleted" && r.IsTrashed && !r.Deleted.IsZero(); rejected != trashed ||
				r.Action == "accept" == trashed || r.AssetID != "" {
				t.Errorf("%+v", r)
			}
		}
		if out.Results[2].Action != "accept" || out.Results[3].Action != "accept" {
			t.Errorf("%+v", out.Results[2:])
		}
		// Whoever sends it all the same hears why it is not kept.
		for _, header := range [][]string{nil, {"x-immich-checksum", hexSum("one")}} {
			w.post(w.ada, "", form(field("fileCreatedAt", created), file("new name.jpg", "one")), header...).refuses(410, "deleted")
		}
		if all := w.items(w.ada); len(all) != 0 {
			t.Errorf("%+v", all)
		}
		if trashed {
			w.ada.Call("DELETE", "/v1/items/"+it.ID, nil, nil)
		}
	}
	w.ada.Call("POST", "/v1/blobs/wanted", map[string]any{"sha256": []string{it.SHA256}}, nil)
	out.Results = nil
	w.json("POST", "/api/assets/bulk-upload-check", question).into(&out)
	if out.Results[0].Action != "accept" {
		t.Errorf("%+v", out.Results[0])
	}
	if _, status := w.upload("one.jpg", "one"); status != "created" {
		t.Error(status)
	}
	ask := func(n int, checksum string) answer {
		list := strings.Repeat(fmt.Sprintf(`{"id":"x","checksum":%q},`, checksum), n)
		return w.json("POST", "/api/assets/bulk-upload-check", `{"assets":[`+strings.TrimSuffix(list, ",")+`]}`)
	}
	ask(0, "").is(200)
	ask(5000, hexSum("x")).is(200)
	ask(5001, hexSum("x")).refuses(413, "too-large")
	for _, bad := range []string{"", "abc", strings.Repeat("g", 40), hexSum("x") + "00", "AAAA"} {
		ask(1, bad).refuses(400, "invalid")
	}
	for _, bad := range []string{"", "{", `{"assets":1}`, `[]`, `{"assets":[{"id":1}]}`} {
		w.json("POST", "/api/assets/bulk-upload-check", bad).refuses(400, "invalid")
	}
	w.json("POST", "/api/assets/bulk-upload-check", `{"assets":[{"id":"`+strings.Repeat("x", 5<<20)+`"}]}`).refuses(413, "too-large")
}

func TestSearchAndStatistics(t *testing.T) {
	w := newWorld(t)
	for i := range 7 {
		w.upload(fmt.Sprintf("%d.jpg", i), fmt.Sprintf("photo %d", i))
	}
	w.upload("film.mp4", "a film")
	w.upload("letter.pdf", "a letter")
	var stats struct{ Images, Videos, Total int }
	w.json("GET", "/api/assets/statistics", "").into(&stats)
	if stats.Images != 7 || stats.Videos != 1 || stats.Total != 9 {
		t.Errorf("%+v", stats)
	}
	type page struct {
		Assets struct {
			Total, Count int
			Items        []struct {
				ID, Type, OriginalFileName, OriginalPath, Checksum, FileCreatedAt, FileModifiedAt, Visibility string
				ExifInfo                                                                                      struct{ FileSizeInByte int64 }
			}
			NextPage *string
		}
	}
	order := []string{}
	for _, by := range []string{"asc", "desc"} {
		seen, next := []string{}, "1"
		for n := 0; next != "" && n < 9; n++ {
			var p page
			w.json("POST", "/api/search/metadata", `{"page":`+next+`,"size":4,"order":"`+by+`"}`).into(&p)
			for _, a := range p.Assets.Items {
				seen = append(seen, a.OriginalFileName)
			}
			if next = ""; p.Assets.NextPage != nil {
				next = *p.Assets.NextPage
			}
		}
		if slices.Reverse(order); len(order) > 0 && !slices.Equal(seen, order) || len(seen) != 9 {
			t.Errorf("%s: %v after %v", by, seen, order)
		}
		order = seen
	}
	seen := map[string]bool{}
	next := "1"
	for n := 0; next != ""; n++ {
		var p page // as immich-go asks
		w.json("POST", "/api/search/metadata", `{"page":`+next+`,"size":2,"withExif":true,"withDeleted":true,"visibility":"timeline","order":"asc"}`).into(&p)
		if n > 9 || len(p.Assets.Items) > 2 || p.Assets.Count != len(p.Assets.Items) {
			t.Fatalf("page %d: %+v", n, p)
		}
		for _, a := range p.Assets.Items {
			if seen[a.ID] {
				t.Errorf("%s came twice", a.OriginalFileName)
			}
			seen[a.ID] = true
			if a.FileModifiedAt != modified || a.Visibility != "timeline" || !strings.HasSuffix(a.OriginalPath, "/"+a.OriginalFileName) {
				t.Errorf("%+v", a)
			}
			if a.OriginalFileName == "film.mp4" && (a.Checksum != base64Sum("a film") || a.ExifInfo.FileSizeInByte != 6 || a.Type != "VIDEO") {
				t.Errorf("%+v", a)
			}
		}
		if next = ""; p.Assets.NextPage != nil {
			next = *p.Assets.NextPage
		}
	}
	if len(seen) != 9 {
		t.Errorf("%d assets in all", len(seen))
	}
	for body, want := range map[string]int{
		`{}`: 9, `{"page":1,"size":1000}`: 9, `{"visibility":"archive"}`: 0, `{"visibility":"locked"}`: 0, `{"isFavorite":true}`: 0, `{"isFavorite":false}`: 9,
		`{"checksum":"` + base64Sum("photo 3") + `"}`: 1, `{"checksum":"` + base64Sum("none") + `"}`: 0, `{"type":"VIDEO"}`: 1, `{"isTrashed":true}`: 0,
		`{"page":"1","tagIds":null,"city":""}`: 9, `{"trashedAfter":"0001-01-01T00:00:00.000Z"}`: 0, `{"rating":3}`: 0, `{"rating":0}`: 9,
	} {
		var p page
		w.json("POST", "/api/search/metadata", body).into(&p)
		if len(p.Assets.Items) != want {
			t.Errorf("%s: %d, want %d", body, len(p.Assets.Items), want)
		}
	}
	// What would narrow the answer is never left out.
	for _, body := range []string{
		`{"city":"Paris"}`, `{"takenAfter":"2020-01-01T00:00:00.000Z"}`, `{"personIds":["x"]}`, `{"order":"up"}`, `{"page":-3}`, `{"page":2}`, `{"page":2,"order":"asc"}`, `{"page":1.5}`,
		`{"isNotInAlbum":true}`, `{"size":"many"}`, `{"page":[1]}`, `5`,
	} {
		w.json("POST", "/api/search/metadata", body).refuses(400, "invalid")
	}
	var bobs page
	w.as(w.bob, "POST", "/api/search/metadata", strings.NewReader(`{}`)).into(&bobs)
	if len(bobs.Assets.Items) != 0 {
		t.Errorf("bob is told of %+v", bobs)
	}
}

// An asset can be described; a change of what the box has no place for shows in the
// answer as not made.
func TestAssetsAreAsTheyAre(t *testing.T) {
	w := newWorld(t)
	id, _ := w.upload("a.jpg", "one")
	var a struct {
		ID, OriginalFileName string
		IsFavorite           bool
		ExifInfo             struct{ Description string }
	}
	w.json("PUT", "/api/assets/"+id, `{"isFavorite":true,"description":"x","latitude":1.5,"dateTimeOriginal":"2020-01-01T00:00:00Z"}`).into(&a)
	if a.ID != id || a.OriginalFileName != "a.jpg" || a.IsFavorite || a.ExifInfo.Description != "" {
		t.Errorf("%+v", a)
	}
	w.json("PUT", "/api/assets/"+id, `nonsense`).refuses(400, "invalid")
}

// What was sent can be had back by the id that the answer gave, by its owner only.
func TestOriginals(t *testing.T) {
	w := newWorld(t)
	id, _ := w.upload("a.jpg", "one")
	got := w.as(w.ada, "GET", "/api/assets/"+id+"/original", nil).is(200)
	if string(got.body) != "one" || got.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%q %v", got.body, got.header)
	}
	part := w.as(w.ada, "GET", "/api/assets/"+id+"/original", nil, "Range", "bytes=1-").is(206)
	if string(part.body) != "ne" {
		t.Errorf("a range of it is %q", part.body)
	}
	w.as(w.ada, "GET", "/api/assets/"+id+"/original", nil, "Range", "bytes=9-").refuses(416, "range-unsatisfiable")
	w.as(w.bob, "GET", "/api/assets/"+id+"/original", nil).refuses(404, "not-found")
	w.as(w.ada, "GET", "/api/assets/nonsense/original", nil).refuses(404, "not-found")
}

func TestAlbums(t *testing.T) {
	w := newWorld(t)
	one, _ := w.upload("a.jpg", "one")
	two, _ := w.upload("a.jpg", "two") // beside the first
	type album struct {
		ID, AlbumName string
		AssetCount    int
	}
	list := func() (all []album) {
		t.Helper()
		w.json("GET", "/api/albums", "").into(&all)
		return all
	}
	if all := list(); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	var trip album
	w.json("POST", "/api/albums", `{"albumName":"2023 / Trip","assetIds":["`+one+`"]}`).is(201).into(&trip)
	if trip.AlbumName != "2023 / Trip" || trip.AssetCount != 1 {
		t.Errorf("%+v", trip)
	}
	type result struct {
		ID, Error string
		Success   bool
	}
	add := func(ids ...string) (out []result) {
		t.Helper()
		w.json("PUT", "/api/albums/"+trip.ID+"/assets", `{"ids":["`+strings.Join(ids, `","`)+`"]}`).is(200).into(&out)
		return out
	}
	got := add(one, two, "nonsense", two)
	want := []result{{one, "duplicate", false}, {two, "", true}, {"nonsense", "not_found", false}, {two, "duplicate", false}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	w.holds("Albums/2023%20%EF%BC%8F%20Trip/a.jpg", "one")
	w.holds("Albums/2023%20%EF%BC%8F%20Trip/a%20(2).jpg", "two")
	var status struct{ Blobs, Items int }
	w.Local("GET", "/local/status", nil, &status)
	if status.Blobs != 2 || status.Items != 4 { // names, not copies
		t.Errorf("%+v", status)
	}
	// The album is found again, also after a restart, and its name is one album's.
	var again album
	w.json("POST", "/api/albums", `{"albumName":"2023 / Trip"}`).is(201).into(&again)
	if again.ID != trip.ID || again.AssetCount != 2 {
		t.Errorf("%+v", again)
	}
	w.Restart()
	if all := list(); len(all) != 1 || all[0] != again {
		t.Errorf("%+v", all)
	}
	w.json("GET", "/api/albums/"+trip.ID, "").into(&again)
	var inside struct {
		AlbumName string
		Assets    []struct{ OriginalFileName, Checksum string }
	}
	w.json("GET", "/api/albums/"+trip.ID+"?withoutAssets=false", "").into(&inside)
	if len(inside.Assets) != 2 || inside.AlbumName != "2023 / Trip" || inside.Assets[0].OriginalFileName != "a (2).jpg" || inside.Assets[1].Checksum != base64Sum("one") {
		t.Errorf("%+v", inside)
	}
	var empty album
	w.json("POST", "/api/albums", `{"albumName":"empty"}`).into(&empty)
	inside.Assets = nil
	w.json("GET", "/api/albums/"+empty.ID+"?withoutAssets=false", "").into(&inside)
	if inside.Assets == nil || len(inside.Assets) != 0 {
		t.Errorf("%+v", inside)
	}
	w.json("GET", "/api/albums?assetId="+one, "").refuses(http.StatusNotImplemented, "unsupported")
	var none []album
	w.json("GET", "/api/albums?shared=true", "").into(&none)
	if len(none) != 0 {
		t.Errorf("%+v", none)
	}
	// Bob's are his.
	w.as(w.bob, "GET", "/api/albums/"+trip.ID, nil).refuses(404, "not-found")
	w.as(w.bob, "PUT", "/api/albums/"+trip.ID+"/assets", strings.NewReader(`{"ids":["`+one+`"]}`)).refuses(404, "not-found")
	w.as(w.bob, "POST", "/api/albums", strings.NewReader(`{"albumName":"bob's"}`)).refuses(403, "consent-required")
	w.full(w.bob).Grant("storage", "album_backup")
	var bobs album
	w.as(w.bob, "POST", "/api/albums", strings.NewReader(`{"albumName":"bob's","assetIds":["`+one+`"]}`)).into(&bobs)
	if bobs.AssetCount != 0 || len(w.items(w.bob)) != 0 {
		t.Errorf("bob named ada's photo: %+v", bobs)
	}
	for _, name := range []string{"", ".", "..", "a\\u0000b", "a\\u202eb", strings.Repeat("x", 256)} {
		w.json("POST", "/api/albums", `{"albumName":"`+name+`"}`).refuses(400, "invalid")
	}
	// A photo in the trash is not added.
	w.ada.Call("DELETE", "/v1/files/Photos/2021/02/a.jpg", nil, nil)
	if got := add(one); got[0].Success || got[0].Error != "not_found" {
		t.Errorf("%+v", got)
	}
	// A share that is used up is no reason to say "added".
	other, _ := w.upload("b.jpg", "x")
	w.full(w.ada).SetQuota(1)
	w.json("PUT", "/api/albums/"+trip.ID+"/assets", `{"ids":["`+other+`"]}`).refuses(507, "quota")
	w.full(w.ada).SetQuota(-1)
	if got := add(other); !got[0].Success {
		t.Errorf("%+v", got)
	}
}
