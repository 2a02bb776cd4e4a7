package daemon_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon"
	"yunbox.local/daemon/config"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/gateway/api"
)

// jobsOf is what somebody is told of one kind of work, and all that they are told.
func jobsOf(t *testing.T, p *daemontest.Person, kind string) (list []api.Job, all string) {
	t.Helper()
	var out struct{ Jobs []api.Job }
	r := ask(p, "GET", "/v1/jobs", "").is(t, "jobs", 200, "")
	r.into(t, &out)
	for _, j := range out.Jobs {
		if j.Kind == kind {
			list = append(list, j)
		}
	}
	return list, string(r.body)
}

// Everybody sees how far their own export is; who manages the box sees that one goes on,
// how far it is, and nothing of whose it is or what is in it. R33
func TestJobsTellHowFarAndNotWhose(t *testing.T) {
	t.Parallel()
	b := daemontest.StartWith(t, t.TempDir(), nil, func(c *config.Config) { c.Tree = "auto" })
	ada := b.Bind()
	ada.Grant("storage", "album_backup")
	z := zerline(t, b)
	const large = 24 << 20
	if r := ask(z, "PUT", "/v1/files/Geheim4711.mp4?source=album", strings.Repeat("what nobody may know", large/20)); r.status != 201 {
		t.Fatal(r)
	}
	e := prepareExport(t, z, `{"versions":true,"trash":true}`)

	own, _ := jobsOf(t, z, "export")
	if len(own) != 1 || !own[0].Mine || own[0].State != "done" || own[0].Done != own[0].Total || own[0].Total < 45 || own[0].Size != e.Size || own[0].Since == nil || own[0].Ended == nil {
		t.Errorf("the person's own export: %+v", own)
	}
	if list, _ := jobsOf(t, z, "scrub"); len(list) != 0 {
		t.Errorf("somebody who manages nothing is told of the box: %+v", list)
	}
	if list, all := jobsOf(t, ada, "export"); len(list) != 0 {
		t.Errorf("another person's export that only lies there: %s", all)
	}

	// It is fetched, and the one who fetches it stops in the middle.
	res, err := b.Client.Do(z.Request("GET", "/v1/me/exports/"+e.ID+"/archive", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadFull(res.Body, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	list, all := jobsOf(t, ada, "export")
	if len(list) != 1 || list[0].Mine || list[0].State != "running" || list[0].Phase != "sending" || list[0].Bytes < 1<<20 || list[0].Bytes >= e.Size || list[0].Size != e.Size {
		t.Errorf("an export that is being fetched: %+v", list)
	}
	var local json.RawMessage
	b.Local("GET", "/local/jobs", nil, &local)
	if !bytes.Contains(local, []byte(`"sending"`)) {
		t.Errorf("on the socket: %s", local)
	}
	for _, trace := range append(traces(), z.ID, e.ID, ".mp4") {
		if strings.Contains(all, trace) || bytes.Contains(local, []byte(trace)) {
			t.Errorf("%q is told to whoever manages the box: %s %s", trace, all, local)
		}
	}
	if own, _ := jobsOf(t, z, "export"); len(own) != 1 || !own[0].Mine || own[0].State != "running" {
		t.Errorf("the person's own, meanwhile: %+v", own)
	}

	// An account in its time to think is no secret to its person.
	ask(z, "POST", "/v1/me/cancellation", `{"files":"erase"}`).is(t, "cancellation", 201, "")
	if own, _ := jobsOf(t, z, "cancellation"); len(own) != 1 || own[0].State != "waiting" || own[0].Until == nil || !own[0].Mine {
		t.Errorf("the person's own cancellation: %+v", own)
	}
	if list, _ := jobsOf(t, ada, "cancellation"); len(list) != 1 || list[0].Mine || list[0].Count != 1 {
		t.Errorf("another's cancellation: %+v", list)
	}
	res.Body.Close() // or the box waits for it
	b.Stop()
	erasesStepByStep(t, b.State)
}

// erasesStepByStep looks at each step of an erasure how far it is said to be.
func erasesStepByStep(t *testing.T, state string) {
	t.Helper()
	box, err := daemon.Open(t.Context(), daemon.Options{Config: config.Config{
		State: state, HTTPS: "127.0.0.1:0", HTTP: config.Off, FTP: config.Off, MemoryMiB: 64, ScrubDays: 30, Tree: "auto",
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	if err := daemon.Database(box).Write(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO erasure (user, category, purpose, trash, asked) SELECT id, 'files', '', 0, ? FROM user WHERE role <> 'owner'`, tx.Now.UnixMilli())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var told []string
	daemon.Between(box, func(ctx context.Context) error {
		works, err := daemon.Works(ctx, box)
		for _, w := range works {
			if w.Kind != "erasure" {
				continue
			}
			if w.Done > w.Total || w.Done < 0 {
				t.Errorf("%d of %d", w.Done, w.Total)
			}
			if s := fmt.Sprintf("%s %d of %d", w.Phase, w.Done, w.Total); len(told) == 0 || told[len(told)-1] != s {
				told = append(told, s)
			}
		}
		return err
	})
	if err := daemon.EraseNow(t.Context(), box); err != nil {
		t.Fatal(err)
	}
	// 40 photos, one that changed, and the film; then the offers that name them.
	text := strings.Join(told, "; ")
	if !strings.HasPrefix(text, "erasing 0 of ") || !strings.Contains(text, "erasing 42 of ") {
		t.Errorf("the erasure said: %s", text)
	}
	works, err := daemon.Works(t.Context(), box)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range works {
		if w.Kind == "erasure" {
			t.Errorf("it is over, and still told: %+v", w)
		}
	}
}

// Works that are alike are one job to others, and a sum with something unknown in it is not told.
func TestJobsOfSeveralPeople(t *testing.T) {
	now := time.Now()
	works := []api.Work{
		{Kind: "scrub", State: api.WorkDone, Ended: now},
		{Kind: "export", State: api.WorkRuns, Phase: "listing", Whose: 2, Done: 1, Total: 10, Since: now},
		{Kind: "export", State: api.WorkRuns, Phase: "listing", Whose: 3, Done: 2, Total: 20, Since: now.Add(-time.Hour)},
		{Kind: "export", State: api.WorkWaits, Whose: 4},
		{Kind: "export", State: api.WorkFailed, Whose: 5, Says: "secret"},
		{Kind: "erasure", State: api.WorkRuns, Whose: 2, Done: 1, Total: 2},
		{Kind: "erasure", State: api.WorkRuns, Whose: 3},
	}
	list := api.Jobs(works, 0, true)
	if len(list) != 4 || list[1].Count != 2 || list[1].Done != 3 || list[1].Total != 30 || list[2].State != "waiting" || list[3].Total != 0 || list[3].Count != 2 {
		t.Errorf("root is told %+v", list)
	}
	if since := time.Time(*list[1].Since); !since.Equal(now.Add(-time.Hour)) {
		t.Errorf("since %v", since)
	}
	if list := api.Jobs(works, 5, false); len(list) != 1 || !list[0].Mine || list[0].Says != "secret" {
		t.Errorf("a person is told %+v", list)
	}
	if list := api.Jobs(works, 2, true); len(list) != 6 || list[1].Count != 1 || !list[1].Mine || list[2].Mine || list[2].Count != 1 {
		t.Errorf("an admin is told %+v", list)
	}
	if d := api.Remaining(now.Add(-time.Minute), now, 10, 50); d != 5*time.Minute {
		t.Errorf("%v are left", d)
	}
}
