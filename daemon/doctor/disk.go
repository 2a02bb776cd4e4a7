package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// smartTime is how long a disk may take to say how it is: one that sleeps is not woken.
const smartTime = 20 * time.Second

// Disks returns the disks below a folder, by the names of /sys/block: several for a
// file system or a volume that spreads over them, none where the kernel does not tell.
func Disks(dir string) []string {
	major, minor, ok := deviceOf(dir)
	if !ok || major == 0 {
		return nil
	}
	at, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", major, minor))
	if err != nil {
		return nil
	}
	return below(at, 0)
}

// below follows partitions and the layers of volumes down to disks.
func below(at string, depth int) (disks []string) {
	if depth > 8 {
		return nil
	}
	if _, err := os.Stat(filepath.Join(at, "partition")); err == nil {
		at = filepath.Dir(at)
	}
	slaves, err := os.ReadDir(filepath.Join(at, "slaves"))
	if err != nil || len(slaves) == 0 {
		return []string{filepath.Base(at)}
	}
	for _, s := range slaves {
		if next, err := filepath.EvalSymlinks(filepath.Join(at, "slaves", s.Name())); err == nil {
			disks = append(disks, below(next, depth+1)...)
		}
	}
	return disks
}

// Health asks a disk how it is: a card or eMMC through the kernel, others through
// smartctl, if that is installed and may.
func Health(ctx context.Context, disk string) Finding {
	const check = "disk-health"
	dir := filepath.Join("/sys/block", disk, "device")
	life, err1 := os.ReadFile(filepath.Join(dir, "life_time"))
	spare, err2 := os.ReadFile(filepath.Join(dir, "pre_eol_info"))
	if err1 == nil && err2 == nil {
		return Flash(disk, string(life), string(spare))
	}
	tool, err := exec.LookPath("smartctl")
	if err != nil {
		if _, err := os.Stat("/usr/sbin/smartctl"); err != nil {
			return unknown(check, "How "+disk+" is cannot be asked: there is no smartctl.", "Install it: `apt install smartmontools`.")
		}
		tool = "/usr/sbin/smartctl"
	}
	ctx, cancel := context.WithTimeout(ctx, smartTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, tool, "--json", "--nocheck=standby,0", "--health", "--attributes", "/dev/"+disk).Output()
	if len(out) == 0 && err != nil {
		return unknown(check, disk+" did not say how it is.", "Run it with sudo.")
	}
	return Smart(disk, out)
}

// Flash judges what a memory card says of itself (JEDEC eMMC 5.0: life in tenths that
// are used, spare blocks normal, few or nearly none).
func Flash(disk, life, spare string) Finding {
	const check = "disk-health"
	used := 0
	for _, word := range strings.Fields(life) {
		if n, err := strconv.ParseUint(word, 0, 8); err == nil {
			used = max(used, int(n))
		}
	}
	left, _ := strconv.ParseUint(strings.TrimSpace(spare), 0, 8)
	do := "Keep a second copy (`yunboxctl backup add`) and replace it."
	switch {
	case left == 3 || used >= 11:
		return Finding{check, Fail, disk + " is worn out.", do}
	case left == 2 || used >= 9:
		return Finding{check, Warn, fmt.Sprintf("%s has used %d to %d %% of its life.", disk, (used-1)*10, used*10), do}
	case used == 0:
		return unknown(check, disk+" does not say how worn it is.", "")
	}
	return ok(check, "%s has used %d to %d %% of its life.", disk, (used-1)*10, used*10)
}

// Smart judges the JSON of smartctl 7. Serial numbers that are in it are not repeated.
func Smart(disk string, out []byte) Finding {
	const check = "disk-health"
	var s struct {
		Status *struct {
			Passed bool `json:"passed"`
		} `json:"smart_status"`
		ATA struct {
			Table []struct {
				ID  int `json:"id"`
				Raw struct {
					Value int64 `json:"value"`
				} `json:"raw"`
			} `json:"table"`
		} `json:"ata_smart_attributes"`
		NVMe *struct {
			Warning int64 `json:"critical_warning"`
			Used    int64 `json:"percentage_used"`
			Errors  int64 `json:"media_errors"`
		} `json:"nvme_smart_health_information_log"`
		Power string `json:"power_mode"`
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return unknown(check, disk+" gave an answer that cannot be read.", "")
	}
	do := "Keep a second copy (`yunboxctl backup add`), and replace the disk."
	var signs []string
	for _, a := range s.ATA.Table { // what disks die of, as Backblaze has counted for years
		if name := map[int]string{5: "reallocated sectors", 187: "uncorrectable errors", 197: "pending sectors", 198: "unreadable sectors"}[a.ID]; name != "" && a.Raw.Value > 0 {
			signs = append(signs, fmt.Sprintf("%d %s", a.Raw.Value, name))
		}
	}
	if n := s.NVMe; n != nil {
		if n.Warning != 0 {
			signs = append(signs, fmt.Sprintf("critical warning %d", n.Warning))
		}
		if n.Errors > 0 {
			signs = append(signs, fmt.Sprintf("%d media errors", n.Errors))
		}
		if n.Used >= 90 {
			signs = append(signs, fmt.Sprintf("%d %% of its life used", n.Used))
		}
	}
	switch {
	case s.Status != nil && !s.Status.Passed:
		return Finding{check, Fail, disk + " says that it is failing.", "Copy everything now (`yunboxctl backup run`), then replace the disk."}
	case len(signs) > 0:
		return Finding{check, Warn, disk + " shows its age: " + strings.Join(signs, ", ") + ".", do}
	case s.Status == nil:
		return unknown(check, disk+" does not say how it is, or sleeps.", "")
	}
	return ok(check, "%s says that it is well.", disk)
}
