package gatewaytest

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

// diskCases run in this order on one box whose blobs are on a disk that fills
// up, fails and loses power.
var diskCases = []testCase{
	{"full", aFullDisk},
	{"full in the middle", aDiskThatFillsUp},
	{"sync", aFailedSync},
	{"directory sync", aFailedSyncOfNames},
	{"failures", everyFailure},
	{"power cut", aPowerCut},
	{"expired", expiredSessions},
}

// leave sets the disk's size so that n bytes fit above the box's reserve, which
// is a twentieth of a small disk.
func (s *suite) leave(n int64) {
	s.Helper()
	space, err := s.disk.Space()
	if err != nil {
		s.Fatal(err)
	}
	s.disk.SetCapacity((space.Total - space.Free + n) * 20 / 19)
}

// roomy is a disk of a size that no case fills by accident.
const roomy = 1 << 30

// A full disk takes nothing more and says so; what is there can be read, listed
// and deleted, and deleting makes room.
func aFullDisk(s *suite) {
	defer s.disk.SetCapacity(roomy)
	old, large := content(s.Name()+"old", 5<<20), content(s.Name(), 4<<20)
	s.put(s.file("old.mp4", old), old)
	s.waste[sum(old)] = true // a later power cut may bring a removed file back
	s.leave(512 << 10)
	f := s.file("large.mp4", large)
	s.unchanged(func() {
		full := func(what string, err error) {
			s.Helper()
			if r := s.refused(what, err, "full"); r.Status != 507 && r.Status != 552 { // of HTTP, of FTP
				s.Errorf("%s: status %d", what, r.Status)
			}
		}
		full("announcing too much", s.client.Announce(s.Context(), f, fmt.Sprint(len(large))))
		_, err := s.client.Put(s.Context(), f)
		full("sending too much", err)
		unsaid := f
		unsaid.Size = -1
		_, err = s.client.Put(s.Context(), unsaid)
		full("sending too much without a size", err)
		s.absent(f.Path)
	})
	small := content(s.Name()+"small", 100<<10)
	s.put(s.file("small.jpg", small), small)
	s.kept(s.path("old.mp4"), old)
	var id string
	for _, i := range s.items(s.ada) {
		if i.Path == s.path("old.mp4") {
			id = i.ID
		}
	}
	s.ada.Call("DELETE", "/v1/files/"+escape(s.path("old.mp4")), nil, nil)
	s.ada.Call("DELETE", "/v1/items/"+id, nil, nil)
	s.eventually("what was deleted makes room", func() bool {
		space, err := s.disk.Space()
		return err == nil && space.Free > 5<<20
	})
	s.put(f, large)
}

// Somebody else fills the disk while a file comes in.
func aDiskThatFillsUp(s *suite) {
	body := content(s.Name(), 500<<10)
	f := s.file("a.mp4", body)
	s.unchanged(func() {
		s.disk.Fail(vfstest.Fault{Ops: vfstest.OpWrite, Nth: 1, Err: syscall.ENOSPC, Short: true, Path: staged})
		_, err := s.client.Put(s.Context(), f)
		s.refused("a disk that filled up", err, "full")
		s.absent(f.Path)
	})
	s.put(f, body)
}

func staged(name string) bool { return name == "staging" || strings.HasPrefix(name, "staging/") }

// A failed sync is lost data: the file is not stored, whatever a second sync
// says, and whoever looks after the box is told.
func aFailedSync(s *suite) {
	if !s.status().Volume.OK {
		s.Fatal("the volume is flagged before anything failed")
	}
	body := content(s.Name(), 600<<10) // more than goes into the intent log
	f := s.file("a.jpg", body)
	s.unchanged(func() {
		s.disk.Fail(vfstest.Fault{Ops: vfstest.OpSync, Nth: 1, Err: syscall.EIO, Path: staged})
		_, err := s.client.Put(s.Context(), f)
		s.refused("a failed sync", err, "unavailable")
		s.absent(f.Path)
		if s.disk.Pending() {
			s.Error("no sync was asked for")
		}
	})
	if v := s.status().Volume; v.OK || v.Error == nil {
		s.Errorf("the volume is not flagged: %+v", v)
	}
	s.unchanged(func() { // a disk that loses data gets no more until somebody has looked
		_, err := s.client.Put(s.Context(), f)
		s.refused("an upload after a failed sync", err, "unavailable")
		s.absent(f.Path)
	})
	s.mountAgain()
	s.put(f, body)
}

// After a failed sync of a directory no name on the disk can be trusted: the box
// takes nothing until it is started anew, and serves what it has.
func aFailedSyncOfNames(s *suite) {
	kept, body := content(s.Name()+"kept", 10<<10), content(s.Name(), 600<<10)
	s.put(s.file("kept.jpg", kept), kept)
	f := s.file("a.jpg", body)
	s.unchanged(func() {
		s.disk.Fail(vfstest.Fault{Ops: vfstest.OpSyncDir, Nth: 1, Err: syscall.EIO, Path: func(name string) bool { return !staged(name) }})
		for range 2 {
			_, err := s.client.Put(s.Context(), f)
			s.refused("a failed sync of a directory", err, "unavailable")
			s.absent(f.Path)
		}
		s.kept(s.path("kept.jpg"), kept)
	})
	// Only the daemon starts anew: the names that the failed sync lost still look
	// as if they were there. What is acknowledged now must survive all the same.
	s.restart(s.box.Restart)
	if v := s.status().Volume; !v.OK {
		s.Errorf("the volume is still flagged after a new start: %+v", v)
	}
	s.put(f, body)
	s.mountAgain()
	s.kept(f.Path, body)
}

// restart runs stop, which starts the box anew, and connects again.
func (s *suite) restart(stop func()) {
	s.Helper()
	stop()
	if c, ok := s.client.(interface{ Reconnect() }); ok {
		c.Reconnect()
	}
}

// mountAgain is what a person does whose disk is flagged: they start the computer
// anew. What the disk did not keep is gone then.
func (s *suite) mountAgain() {
	s.Helper()
	s.restart(func() {
		s.box.Crash(func() vfs.FS {
			s.disk = s.disk.PowerCut(s.rng)
			return s.disk
		})
	})
}

// Each call to the disk that an upload makes fails once: the file is stored or
// refused, whole or not at all, and the next try succeeds.
func everyFailure(s *suite) {
	for _, err := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		struck := 0
		for n := 1; ; n++ {
			name := fmt.Sprintf("%s %d.jpg", err.Error(), n)
			body := content(s.Name()+name, 90<<10)
			f := s.file(name, body)
			s.disk.Fail(vfstest.Fault{Nth: n, Err: err, Short: true})
			_, failed := s.client.Put(s.Context(), f)
			missed := s.disk.Pending()
			s.disk.Heal()
			if failed == nil {
				s.kept(f.Path, body)
			} else {
				s.refusedSomehow(f.Path, failed)
				s.absent(f.Path)
				if !s.status().Volume.OK {
					s.mountAgain()
				}
				s.put(f, body)
			}
			if missed {
				break
			}
			struck++
		}
		s.Logf("%v struck %d calls", err, struck)
		if struck < 5 {
			s.Errorf("%v struck %d calls: an upload makes more", err, struck)
		}
	}
}

// refusedSomehow checks that a fault of the disk came out as an answer in words.
func (s *suite) refusedSomehow(what string, err error) {
	s.Helper()
	var r *Refusal
	if !errors.As(err, &r) {
		s.Errorf("%s: no answer: %v", what, err)
	} else if r.Kind != "unavailable" && r.Kind != "full" {
		s.Errorf("%s: %v", what, err)
	}
}

// aPowerCut: what was acknowledged is there, and what was under way goes on from
// what had arrived when its connection broke.
func aPowerCut(s *suite) {
	interrupted(s, func() {
		s.box.Crash(func() vfs.FS {
			s.disk = s.disk.PowerCut(s.rng)
			return s.disk
		})
	})
}
