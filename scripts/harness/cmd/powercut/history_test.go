package main

import (
	"slices"
	"testing"
)

func TestAllowedStates(t *testing.T) { // R01
	h := &history{}
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
		at    int
		want  []string
		acked bool
	}{
		{5, []string{absent}, false},
		{15, []string{absent, "one"}, false},
		{20, []string{"one"}, true},
		{35, []string{"one", "two"}, true},
		{40, []string{"two"}, true},
		{65, []string{"two", "three", absent}, true},
		{70, []string{absent}, true},
	} {
		got, acked := h.allowed(c.at)
		if !slices.Equal(got, c.want) || acked != c.acked {
			t.Errorf("cut at %d: allowed %q, acked %v; want %q, %v", c.at, got, acked, c.want, c.acked)
		}
	}
	if got := h.acks(); !slices.Equal(got, []int{20, 40, 70}) {
		t.Errorf("acks at %v", got)
	}
}
