package ident_test

import (
	"encoding/json"
	"testing"
	"time"

	"yunbox.local/daemon/ident"
)

func TestIdentifiersSortByTimeAndRoundTrip(t *testing.T) {
	at := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	prev := ident.New[ident.ItemID](at)
	for i := 1; i < 1000; i++ {
		id := ident.New[ident.ItemID](at.Add(time.Duration(i) * time.Millisecond))
		if id <= prev {
			t.Fatalf("%v made after %v sorts before it", id, prev)
		}
		back, err := ident.Parse[ident.ItemID](id.String())
		if err != nil || back != id {
			t.Fatalf("%v came back as %v, %v", id, back, err)
		}
		prev = id
	}
}

func TestClockAtTheEpochStillGivesSomebody(t *testing.T) {
	for range 100 {
		if ident.New[ident.UserID](time.UnixMilli(0)) <= 0 {
			t.Fatal("the identifier of nobody was handed out")
		}
	}
}

func TestOnlyOneSpellingIsAccepted(t *testing.T) {
	id := ident.New[ident.UserID](time.Now())
	for _, s := range []string{"", "0000000000000", id.String() + "0", " " + id.String()[1:], "zzzzzzzzzzzzz", "ABCDEFGHJKMNP", "7zzzzzzzzzzzz"} {
		if got, err := ident.Parse[ident.UserID](s); err == nil {
			t.Errorf("%q was read as %v", s, got)
		}
	}
}

func TestJSONUsesText(t *testing.T) {
	id := ident.DeviceID(42)
	b, err := json.Marshal(map[string]any{"id": id})
	if err != nil || string(b) != `{"id":"000000000002m"}` {
		t.Fatalf("%s, %v", b, err)
	}
	var back struct{ ID ident.DeviceID }
	if err := json.Unmarshal(b, &back); err != nil || back.ID != id {
		t.Fatalf("%v, %v", back, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(ident.UserID(1).String())
	f.Add("7zzzzzzzzzzzz")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ident.Parse[ident.UserID](s); err == nil && id.String() != s {
			t.Fatalf("%q and %q name the same person", s, id.String())
		}
	})
}

func TestOnlyFullScopeAdministers(t *testing.T) {
	for _, c := range []struct {
		p    ident.Principal
		want bool
	}{
		{ident.Principal{User: 1, Role: ident.Owner, Scope: ident.ScopeFull}, true},
		{ident.Principal{User: 1, Role: ident.Admin, Scope: ident.ScopeFull}, true},
		{ident.Principal{User: 1, Role: ident.Owner, Scope: ident.ScopeFiles}, false},
		{ident.Principal{User: 1, Role: ident.Member, Scope: ident.ScopeFull}, false},
		{ident.Principal{Role: ident.Owner, Scope: ident.ScopeFull}, false},
	} {
		if c.p.Admin() != c.want {
			t.Errorf("%+v: Admin() = %v", c.p, c.p.Admin())
		}
	}
}
