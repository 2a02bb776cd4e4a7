package gatewaytest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
)

// A Way is a gateway by its name.
type Way struct {
	Name    string
	Connect Connect
}

// Together lets two clients write one name at the same moment, by every pair of the
// gateways, and by each with itself. One of them has the name in the end, whole. What
// the other was told is true: "stored", and its bytes are kept as a version, or a
// conflict.
func Together(t *testing.T, ways []Way) {
	t.Helper()
	box := start(t, nil)
	ada := box.Bind()
	ada.Grant("storage", "album_backup", "camera_transfer")
	waste := map[string]bool{}
	for i, a := range ways {
		for _, b := range ways[i:] {
			t.Run(a.Name+" and "+b.Name, func(t *testing.T) {
				box.For(t)
				together(t, box, ada, a.Connect, b.Connect, waste)
			})
		}
	}
	check(t, box, waste)
}

func together(t *testing.T, box *daemontest.Box, ada *daemontest.Person, a, b Connect, waste map[string]bool) {
	s := &suite{T: t, box: box, ada: ada, folder: "together", source: "album"}
	clients := []Client{a(t, ada), b(t, ada)}
	for _, c := range clients {
		if terse, ok := c.(Terse); ok {
			s.speakTersely(terse) // both write where this one can
		}
	}
	path := s.path(fmt.Sprintf("%s.jpg", sum([]byte(t.Name()))[:8]))
	type end struct {
		client int
		err    error
	}
	ends := make(chan end, len(clients))
	var bodies [][]byte
	var gates []*gate
	for i, c := range clients {
		body := content(fmt.Sprint(t.Name(), i), 150<<10+i) // more than a chunk
		g := newGate(body, len(body)/2)
		bodies, gates = append(bodies, body), append(gates, g)
		f := File{Path: path, Source: s.source, Size: int64(len(body)), Body: g.Body}
		go func() {
			receipt, err := c.Put(t.Context(), f)
			if _, terse := c.(Terse); err == nil && !terse && receipt.SHA256 != sum(body) { // a terse one reads what the name holds
				err = fmt.Errorf("the receipt names %s", receipt.SHA256)
			}
			ends <- end{i, err}
		}()
	}
	var over []end
	for _, g := range gates { // both are in the midst of it
		select {
		case <-g.reached:
		case e := <-ends: // refused at once
			over = append(over, e)
		case <-time.After(2 * time.Minute):
			t.Fatal("neither goes on nor is refused")
		}
	}
	for _, g := range gates {
		close(g.open)
	}
	for len(over) < len(clients) {
		over = append(over, <-ends)
	}
	stored := map[string]bool{}
	for _, e := range over {
		var no *Refusal
		switch {
		case e.err == nil:
			stored[sum(bodies[e.client])] = true
		case errors.As(e.err, &no) && (no.Kind == "conflict" || no.Kind == "precondition-failed" || no.Kind == "locked"):
			waste[sum(bodies[e.client])] = true
		default:
			t.Errorf("client %d got neither its file stored nor a conflict: %v", e.client, e.err)
		}
	}
	if len(stored) == 0 {
		t.Fatal("nobody has the name")
	}
	s.client = clients[0]
	got, err := s.client.Get(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if !stored[sum(got)] {
		t.Errorf("the name holds %d bytes that nobody was told are stored", len(got))
	}
	kept := map[string]bool{}
	for _, it := range s.items(ada) {
		if it.Path != path {
			continue
		}
		kept[it.SHA256] = true
		var list struct{ Versions []struct{ SHA256 string } }
		ada.Call("GET", "/v1/items/"+it.ID+"/versions", nil, &list)
		for _, v := range list.Versions {
			kept[v.SHA256] = true
		}
	}
	for hash := range stored {
		if !kept[hash] {
			t.Errorf("%s was said to be stored and is neither the file nor a version of it: %v", hash, kept)
		}
	}
	if len(s.known(ada, bodies...)) < len(stored) {
		t.Error("the box asks again for what it said that it has")
	}
}
