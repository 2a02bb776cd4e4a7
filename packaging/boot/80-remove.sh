# shellcheck shell=bash disable=SC2154
# The package goes and comes back.
# Needs: 10 30
scene "Removed, and installed again"
nothing_sent() { person push "$photos" --source album --json | grep '"event":"done"' | grep '"sent_bytes":0'; }
check "dpkg -r" in_box dpkg -r yunbox
check "nothing of it runs or listens" refused serving
check "the files are where they were" kept_on_disk
check "the programs are gone, and the versions that updates brought" in_box sh -c '! test -e /usr/lib/yunbox && ! test -e /usr/bin/yunboxctl'
check "dpkg -i" in_box dpkg -i "/root/${next_deb##*/}"
check "it serves" within 120 serving
check "all photos are safe, by their hashes" kept_safe
check "the same backup sends nothing again" nothing_sent
