package api_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"yunbox.local/daemon/daemontest"
)

// BenchmarkPut is the way of a small photo through the whole box, over TLS to a
// durable row. The clients' part is in the figure.
func BenchmarkPut(b *testing.B) {
	box := daemontest.Start(b)
	ada := box.Bind()
	ada.Grant("storage", "album_backup")
	var n atomic.Int64
	b.SetBytes(100 << 10)
	b.ReportAllocs()
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		content := make([]byte, 100<<10)
		rand.Read(content)
		for pb.Next() {
			i := n.Add(1)
			copy(content, fmt.Sprintf("%016d", i))
			r := ada.Request("PUT", fmt.Sprintf("/v1/files/DCIM/%d.jpg?source=album&mtime=1700000000", i), bytes.NewReader(content))
			resp, err := box.Client.Do(r)
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 201 {
				b.Errorf("%s, %v", resp.Status, err)
			}
			resp.Body.Close()
		}
	})
}
