package doctor

import "time"

func now() time.Time { return time.Now() }

// FileSystem judges the kind of file system that the box keeps its files on, by its
// magic number (statfs(2)).
func FileSystem(magic int64) Finding {
	const check = "file-system"
	type kind struct {
		name  string
		state State
		why   string
	}
	const second = "Keep the box on ext4, xfs or btrfs."
	k, known := map[int64]kind{
		0xEF53:     {"ext4", OK, "the readable view makes copies, as ext4 cannot share storage"},
		0x58465342: {"xfs", OK, "files can share storage (reflink) where it was made so"},
		0x9123683E: {"btrfs", OK, "files can share storage (reflink)"},
		0xCA451A4E: {"bcachefs", OK, "files can share storage (reflink)"},
		0x2FC12FC1: {"zfs", OK, "it has checksums of its own"},
		0xF2F52010: {"f2fs", OK, "it is made for flash"},
		0x794C7630: {"overlayfs", Warn, "what is written there may go with the container"},
		0x01021994: {"tmpfs", Fail, "it is memory: everything is lost when the power goes"},
		0x4D44:     {"FAT", Fail, "it knows no access rights and loses data in a power cut"},
		0x2011BAB0: {"exFAT", Fail, "it knows no access rights and loses data in a power cut"},
		0x5346544E: {"NTFS", Fail, "a power cut may damage it"},
		0x6969:     {"NFS", Warn, "what is flushed there is as durable as the other computer makes it"},
		0xFF534D42: {"SMB", Warn, "what is flushed there is as durable as the other computer makes it"},
		0xFE534D42: {"SMB", Warn, "what is flushed there is as durable as the other computer makes it"},
	}[magic&0xFFFFFFFF]
	if !known {
		return unknown(check, "The file system is of a kind that the box does not know.", "")
	}
	f := Finding{check, k.state, "The files lie on " + k.name + ": " + k.why + ".", ""}
	if k.state != OK {
		f.Do = second
	}
	return f
}
