package doctor_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/doctor"
)

func is(t *testing.T, what string, f doctor.Finding, want doctor.State, says string) {
	t.Helper()
	if f.State != want || !strings.Contains(f.Says, says) || !strings.HasSuffix(f.Says, ".") || f.Check == "" {
		t.Errorf("%s: %+v, want %s %q", what, f, want, says)
	}
	if (f.State == doctor.Warn || f.State == doctor.Fail) && f.Do == "" {
		t.Errorf("%s: %+v does not say what to do", what, f)
	}
}

func TestSpace(t *testing.T) {
	const gb = 1_000_000_000
	is(t, "room", doctor.Space(500*gb, 1000*gb, 9, 10), doctor.OK, "500.0 GB of 1.0 TB are free (50 %)")
	is(t, "no fixed inodes", doctor.Space(500*gb, 1000*gb, 0, 0), doctor.OK, "")
	is(t, "little", doctor.Space(5*gb, 100*gb, 9, 10), doctor.Warn, "5 %")
	is(t, "a small part of much", doctor.Space(90*gb, 1000*gb, 9, 10), doctor.OK, "")
	is(t, "hardly any", doctor.Space(100_000_000, 5*gb, 9, 10), doctor.Fail, "100.0 MB")
	is(t, "few inodes", doctor.Space(500*gb, 1000*gb, 50, 1000), doctor.Warn, "50 of 1000 inodes")
	is(t, "no inodes", doctor.Space(500*gb, 1000*gb, 5, 1000), doctor.Fail, "5 of 1000 inodes")
	is(t, "not said", doctor.Space(0, 0, 0, 0), doctor.Unknown, "")
}

func TestClock(t *testing.T) {
	day := time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)
	is(t, "right", doctor.Clock(day, true, true), doctor.OK, "")
	is(t, "by itself", doctor.Clock(day, false, true), doctor.Warn, "no time server")
	is(t, "not told", doctor.Clock(day, false, false), doctor.Unknown, "")
	is(t, "not set", doctor.Clock(time.Unix(0, 0), true, true), doctor.Fail, "1970-01-01")
	is(t, "this machine's", doctor.SystemClock(), doctor.SystemClock().State, "clock")
}

func TestNetwork(t *testing.T) {
	at := func(s ...string) (list []net.IP) {
		for _, a := range s {
			list = append(list, net.ParseIP(a))
		}
		return list
	}
	is(t, "home", doctor.Network([]doctor.Link{{Up: true, Carrier: true, Addresses: at("192.168.1.5", "fe80::1")}, {}}), doctor.OK, "1 of 2 interfaces")
	is(t, "nothing", doctor.Network(nil), doctor.Fail, "switched on")
	is(t, "no cable", doctor.Network([]doctor.Link{{Up: true, Addresses: at("192.168.1.5")}}), doctor.Fail, "No network interface has a link")
	is(t, "no router", doctor.Network([]doctor.Link{{Up: true, Carrier: true, Addresses: at("169.254.1.2")}}), doctor.Warn, "router")
	is(t, "no address", doctor.Network([]doctor.Link{{Up: true, Carrier: true, Addresses: at("fe80::1")}}), doctor.Fail, "no address")
	if _, err := doctor.Links(); err != nil {
		t.Error(err)
	}
}

func TestSmart(t *testing.T) {
	const serial = `"serial_number":"WD-4711",`
	is(t, "well", doctor.Smart("sda", []byte(`{`+serial+`"smart_status":{"passed":true},"ata_smart_attributes":{"table":[{"id":5,"raw":{"value":0}},{"id":9,"raw":{"value":9000}}]}}`)), doctor.OK, "sda says that it is well")
	is(t, "old", doctor.Smart("sda", []byte(`{"smart_status":{"passed":true},"ata_smart_attributes":{"table":[{"id":5,"raw":{"value":8}},{"id":197,"raw":{"value":1}}]}}`)), doctor.Warn, "8 reallocated sectors, 1 pending sectors")
	is(t, "dying", doctor.Smart("sda", []byte(`{`+serial+`"smart_status":{"passed":false}}`)), doctor.Fail, "failing")
	is(t, "a worn SSD", doctor.Smart("nvme0n1", []byte(`{"smart_status":{"passed":true},"nvme_smart_health_information_log":{"critical_warning":0,"percentage_used":97,"media_errors":2}}`)), doctor.Warn, "2 media errors, 97 %")
	is(t, "a virtual one", doctor.Smart("vda", []byte(`{"smartctl":{"exit_status":1}}`)), doctor.Unknown, "")
	is(t, "nonsense", doctor.Smart("vda", []byte(`not JSON`)), doctor.Unknown, "")
	is(t, "a new card", doctor.Flash("mmcblk0", "0x01 0x02\n", "0x01\n"), doctor.OK, "10 to 20 %")
	is(t, "a worn card", doctor.Flash("mmcblk0", "0x09 0x02\n", "0x01\n"), doctor.Warn, "80 to 90 %")
	is(t, "a card at its end", doctor.Flash("mmcblk0", "0x0b 0x02\n", "0x01\n"), doctor.Fail, "worn out")
	is(t, "no spare blocks", doctor.Flash("mmcblk0", "0x01 0x01\n", "0x03\n"), doctor.Fail, "worn out")
	is(t, "a silent card", doctor.Flash("mmcblk0", "0x00 0x00\n", "0x00\n"), doctor.Unknown, "")
}

func TestFileSystems(t *testing.T) {
	is(t, "ext4", doctor.FileSystem(0xEF53), doctor.OK, "ext4")
	is(t, "memory", doctor.FileSystem(0x01021994), doctor.Fail, "memory")
	is(t, "as 32 bits say it", doctor.FileSystem(int64(int32(-1859950530))), doctor.OK, "btrfs")
	is(t, "another", doctor.FileSystem(0x4711), doctor.Unknown, "")
}

func TestOwned(t *testing.T) {
	state := t.TempDir()
	if err := os.Chmod(state, 0o700); err != nil {
		t.Fatal(err)
	}
	is(t, "nothing there", doctor.Owned(filepath.Join(state, "none")), doctor.Fail, "does not exist")
	for name, mode := range map[string]os.FileMode{"keys": 0o700, "blobs": 0o755} {
		if err := os.Mkdir(filepath.Join(state, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	db := filepath.Join(state, "box.db")
	if err := os.WriteFile(db, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	is(t, "as it should be", doctor.Owned(state), doctor.OK, "")
	if err := os.Chmod(db, 0o644); err != nil {
		t.Fatal(err)
	}
	is(t, "a database for all", doctor.Owned(state), doctor.Fail, "box.db")
	if err := os.Chmod(db, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(db, 4711, 4711); err != nil {
			t.Fatal(err)
		}
		is(t, "of somebody else", doctor.Owned(state), doctor.Fail, "same user: box.db")
		if err := os.Chown(db, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(state, 0o777); err != nil {
		t.Fatal(err)
	}
	is(t, "a state directory for all", doctor.Owned(state), doctor.Fail, "written by other users")
}

func TestSince(t *testing.T) {
	now := time.Date(2027, 3, 31, 0, 0, 0, 0, time.UTC)
	is(t, "never", doctor.Since("x", "The last one", time.Time{}, now, 30, "do it"), doctor.Warn, "never")
	is(t, "lately", doctor.Since("x", "The last one", now.Add(-time.Hour), now, 30, "do it"), doctor.OK, "less than a day")
	is(t, "long ago", doctor.Since("x", "The last one", now.Add(-40*24*time.Hour), now, 30, "do it"), doctor.Warn, "40 days")
	if w := doctor.Worst(nil); w != doctor.Unknown {
		t.Error(w)
	}
	if w := doctor.Worst([]doctor.Finding{{State: doctor.OK}, {State: doctor.Fail}, {State: doctor.Warn}}); w != doctor.Fail {
		t.Error(w)
	}
}

// Whatever this machine is, nothing fails to be said.
func TestThisMachine(t *testing.T) {
	dir := t.TempDir()
	for _, f := range append(doctor.Volume(dir), doctor.Kernel()) {
		is(t, "this machine", f, f.State, "")
	}
	for _, disk := range doctor.Disks(dir) {
		is(t, disk, doctor.Health(t.Context(), disk), doctor.Health(t.Context(), disk).State, "")
	}
}
