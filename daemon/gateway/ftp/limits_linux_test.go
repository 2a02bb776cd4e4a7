package ftp

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"yunbox.local/daemon/account"
)

// A camera that was switched off sends neither FIN nor reset.
func TestSilentDataConnectionIsABreak(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	d := &dataConn{Conn: a, idle: 20 * time.Millisecond}
	go b.Write([]byte("half a photo"))
	got, err := io.ReadAll(d)
	if !errors.Is(err, os.ErrDeadlineExceeded) || string(got) != "half a photo" || d.fin.Load() {
		t.Errorf("%q, %v, fin %v", got, err, d.fin.Load())
	}
}

// The end of the data is noticed when it arrives, not when it is read.
func TestEndIsSeenBeforeItIsRead(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d := &dataConn{Conn: c, idle: 2 * time.Minute}
	if _, err := client.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	for range 2 * lookEvery {
		if _, err := d.Read(b); err != nil || !d.ended.IsZero() {
			t.Fatalf("%v, ended %v: it is there", err, d.ended)
		}
	}
	if rtt := roundTrip(c); rtt > 10*time.Second {
		t.Errorf("this machine is %v away from itself", rtt)
	}
	client.Close()
	for end := time.Now().Add(time.Minute); alive(c); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is gone, and nobody noticed")
		}
	}
	for range lookEvery {
		if _, err := d.Read(b); err != nil {
			t.Fatal(err)
		}
	}
	if d.ended.IsZero() || d.fin.Load() {
		t.Errorf("ended %v, read to the end %v", d.ended, d.fin.Load())
	}
}

// A stranger cannot stretch the time to sign in by talking.
func TestStrangersAreNotWaitedFor(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	s := newSession(New(Options{Limits: Limits{SignIn: 20 * time.Millisecond}}), a, addrOf(a.LocalAddr()))
	if err := s.control.SetDeadline(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.control.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	s.signedIn.Store(true)
	if err := s.control.SetDeadline(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	go b.Write([]byte("x"))
	if _, err := s.control.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

func TestFolderOf(t *testing.T) {
	for name, want := range map[string]string{
		"Sony A7": "Camera/Sony A7", "a/b": "Camera/a-b", "..": "Camera/camera", ".": "Camera/camera", "/": "Camera/-", " ": "Camera/camera",
	} {
		if got := folderOf(account.Camera{Name: name}); got != want {
			t.Errorf("%q: %q", name, got)
		}
	}
}

// alive tells a client that is there from one that closed its end.
func TestAlive(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, reset := range []bool{false, true} {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Write([]byte("not read yet")); err != nil {
			t.Fatal(err)
		}
		if !alive(c) {
			t.Error("it is there")
		}
		if reset {
			client.(*net.TCPConn).SetLinger(0)
		}
		client.Close()
		for end := time.Now().Add(time.Minute); alive(c); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("reset %v: it is gone, and nobody noticed", reset)
			}
		}
		c.Close()
	}
}
