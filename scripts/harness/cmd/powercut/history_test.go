package main

import (
	"maps"
	"slices"
	"testing"
)

func TestAllowedStates(t *testing.T) { // R01
	h := &history{row: "files by API"}
	pos := 0
	at := func(p int) func() int { pos = p; return func() int { return pos } }
	ack := func(acked func(), p int) { pos = p; acked() }

	first := h.begin("one", at(10))
	ack(first, 20)
	second := h.begin("two", at(30))
	ack(second, 40)
	h.begin("three", at(50)) // never answered
	fourth := h.begin(absent, at(60))
	ack(fourth, 70)

	for _, c := range []struct {
		at   int
		want []string
		row  string
	}{
		{5, []string{absent}, ""},
		{15, []string{absent, "one"}, ""},
		{20, []string{"one"}, "files by API"},
		{35, []string{"one", "two"}, "files by API"},
		{40, []string{"two"}, "files by API"},
		{65, []string{"two", "three", absent}, "files by API"},
		{70, []string{absent}, "deletions by API"},
	} {
		got, row := h.allowed(c.at)
		if !slices.Equal(got, c.want) || row != c.row {
			t.Errorf("cut at %d: allowed %q, %q; want %q, %q", c.at, got, row, c.want, c.row)
		}
	}
	if got := h.acks(); !slices.Equal(got, []int{20, 40, 70}) {
		t.Errorf("acks at %v", got)
	}
	firsts := map[string]int{}
	h.first(firsts)
	if !maps.Equal(firsts, map[string]int{"deletions by API": 70}) {
		t.Errorf("first acknowledged at %v", firsts)
	}
}
