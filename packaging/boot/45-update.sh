# shellcheck shell=bash disable=SC2154,SC2016
# Updates by signed bundles: good ones, broken ones that the box comes back from by itself,
# and a power cut in the middle. What was taken in stays, whatever happens.
# Needs: 10 30
scene "Updated by a signed bundle"
updates=$work/updates
packaged=$root/usr/lib/yunbox/releases/packaged
schema=$(sed -n 's/.*"max_schema": *\([0-9]*\).*/\1/p' "$packaged/release.json")
rm -rf "$updates" && mkdir -p "$updates"

# release N SCHEMA [SCRIPT]: a bundle of release N: this daemon, or a script in its place.
release() {
	local dir=$updates/$1
	mkdir -p "$dir"
	cp "$packaged/yunboxd" "$packaged/yunboxctl" "$dir/"
	[ -z "${3:-}" ] || printf '#!/bin/sh\n%s\n' "$3" >"$dir/yunboxd"
	printf '{"version": "9.0.%d", "counter": %d, "arch": "%s", "min_schema": 1, "max_schema": %d}\n' "$1" "$1" "$arch" "$2" >"$dir/release.json"
	"$maker/ctl" release sign "$dir" --list "$maker/list" --key "$maker/release" --out "$updates" >/dev/null
	mv "$updates/yunbox_9.0.$1_$arch.yup" "$root/root/$1.yup"
	rm -rf "$dir"
}
current_is() { in_box sh -c "readlink /proc/\$(systemctl show -P MainPID yunboxd)/exe | grep -F 'releases/$1/yunboxd'"; }
# update N: puts release N on the box; what comes of it is in the output.
update() { box update "/root/$1.yup"; }
refused_with() { { update "$1" 2>&1 || true; } | grep -F "$2"; }
# came_back FOLDER N: release N is given up, the one in FOLDER runs, and all is there.
came_back() {
	! update "$2" || return 1
	current_is "$1" && within 120 serving && sh_kept_safe
}
during=$work/house/during
sh_kept_safe() { safe "$photos"; }
all_there() { pushed && safe "$photos" "$during"; }

in_box sh -c 'mkdir -p /etc/systemd/system/yunbox-update.service.d && printf "[Service]\nEnvironment=\"YUNBOX_UPDATE=--patience 15s --stay 2s\"\n" >/etc/systemd/system/yunbox-update.service.d/boot.conf && systemctl daemon-reload'
release 101 "$schema"
release 102 "$schema" 'exec sleep infinity'
release 103 "$schema" 'exit 1'
release 104 "$schema" 'id=$(sed "s/.*\"id\":\"\([^\"]*\)\".*/\1/" /var/lib/yunbox/update/trial); echo "{\"id\":\"$id\",\"counter\":104,\"ok\":false,\"failed\":\"blob\"}" >/var/lib/yunbox/update/health; exec sleep infinity'
release 105 $((schema + 1)) 'cd /var/lib/yunbox && echo rubbish >box.db && rm -rf box.db-wal journal/*; exec sleep infinity'
release 106 $((schema + 1))
release 50 "$schema"
head -c -1 "$root/root/106.yup" >"$root/root/short.yup"

fill "$during" 150 150000
knocking
pushing "$during"
check "a good update, while photos come in" update 101
check "it runs" current_is 101
knocks=$(silence)
figure "calls on new connections meanwhile" "$knocks"
check "nobody was refused, and nobody cut off" grep '"refused":0,"other":0' <<<"$knocks"
check "all photos that came in meanwhile are there" all_there
check "an older one is refused, with words" refused_with 50 "older than this box"
check "one that is cut short is refused, with words" refused_with short "damaged or incomplete"
check "one that never answers: the version before comes back" came_back 101 102
check "one that crashes: likewise" came_back 101 103
check "one that finds itself sick: likewise" came_back 101 104
during=$work/house/during2
fill "$during" 150 150000
pushing "$during"
check "one that ruins the records: likewise, and the records with it" came_back 101 105
check "all photos that came in meanwhile are there" all_there
check "back to the package, and everything with it" box update rollback
check "the package's version runs" current_is packaged
check "forward again, with records that move" update 106
check "it runs" current_is 106
check "everything is safe, by its hashes" within 120 sh_kept_safe

scene "Killed and cut off in the middle of an update"
# The schema of 106 is a claim; the real one did not move, so that 107 may ruin everything.
release 107 $((schema + 2)) 'cd /var/lib/yunbox && echo rubbish >box.db && rm -rf journal/*; exec sleep infinity'
in_phase() { grep -qs "\"phase\":\"$1\"" "$root/usr/lib/yunbox/update/step.json"; }
settled() { [ ! -e "$root/usr/lib/yunbox/update/step.json" ] && [ ! -e "$root/var/lib/yunbox/update/request" ]; }
# begin: 107 is asked for, and is tried out.
begin() {
	box update --only-verify /root/107.yup >/dev/null
	box update install >/dev/null 2>&1 &
	within 120 in_phase trial
	sleep 1
}
begin
check "the updater is killed while a ruinous update is tried out" in_box systemctl kill -s KILL yunbox-update.service
check "the version before comes back by itself" within 120 settled
check "it runs" within 120 current_is 106
check "everything is safe, by its hashes" within 120 safe "$photos" "$during"
begin
cut_power
boot && check "power cut while it is tried out: it boots" in_box systemctl is-active yunboxd.socket
check "the version before comes back by itself" within 120 settled
check "it runs" within 120 current_is 106
check "everything is safe, by its hashes" within 120 safe "$photos" "$during"
figure "how it ended" "$(box update status 2>/dev/null | sed -n 's/^last *//p')"
kept+=("$work/house/during" "$during")
in_box rm -rf /etc/systemd/system/yunbox-update.service.d
in_box systemctl daemon-reload
