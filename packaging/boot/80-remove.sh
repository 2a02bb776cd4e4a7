# shellcheck shell=bash disable=SC2154
# The package goes and comes back.
scene "Removed, and installed again"
all=("$photos" "$more" "$cut")
# on_disk: each photo lies below blobs/ under its SHA-256, whole, and belongs to the box's user.
on_disk() {
	local sum _
	find "${all[@]}" -type f -exec sha256sum {} + | while read -r sum _; do
		echo "$sum  $root/var/lib/yunbox/blobs/${sum:0:2}/$sum"
	done | sha256sum --quiet -c && in_box getent passwd yunbox
}
nothing_sent() { person push "$photos" --source album --json | grep '"event":"done"' | grep '"sent_bytes":0'; }
check "dpkg -r" in_box dpkg -r yunbox
check "nothing of it runs or listens" refused serving
check "the files are where they were" on_disk
check "the programs are gone, and the versions that updates brought" in_box sh -c '! test -e /usr/lib/yunbox && ! test -e /usr/bin/yunboxctl'
check "dpkg -i" in_box dpkg -i "/root/${next_deb##*/}"
check "it serves" within 15 serving
check "all photos are safe, by their hashes" safe "${all[@]}"
check "the same backup sends nothing again" nothing_sent
