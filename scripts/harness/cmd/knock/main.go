// Command knock calls a box all the time, each time on a new connection, until it gets
// SIGTERM. Then it says how often it was answered, refused or cut off, and how long the
// longest answer took: scripts/boot looks by it whether an upgrade was noticed.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

type count struct {
	Answered int `json:"answered"`
	Refused  int `json:"refused"` // by the kernel: nobody listens
	Other    int `json:"other"`   // cut off, timed out, an error of the box
	Longest  int `json:"longest_ms"`
	// Last is the last error.
	Last string `json:"last,omitempty"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: knock https://HOST:PORT/PATH")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	var mu sync.Mutex
	var all count
	var knockers sync.WaitGroup
	for range 4 {
		knockers.Go(func() {
			for ctx.Err() == nil {
				begin := time.Now()
				err := knock(os.Args[1])
				took := int(time.Since(begin).Milliseconds())
				mu.Lock()
				all.Longest = max(all.Longest, took)
				switch {
				case err == nil:
					all.Answered++
				case errors.Is(err, syscall.ECONNREFUSED):
					all.Refused++
				default:
					all.Other++
				}
				if err != nil {
					all.Last = err.Error()
				}
				mu.Unlock()
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	knockers.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(all); err != nil {
		os.Exit(1)
	}
}

func knock(url string) error {
	c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		// The box's key is not the question here.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
	}}
	r, err := c.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close() //nolint:errcheck // read only
	if r.StatusCode != http.StatusOK {
		return errors.New(r.Status)
	}
	return nil
}
