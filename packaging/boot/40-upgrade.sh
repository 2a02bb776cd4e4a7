# shellcheck shell=bash disable=SC2154,SC2016
# The next version replaces this one while the house is at it; an older one does not.
# Needs: 10 30
scene "Upgraded by a package"
more=$work/house/more
runs() {
	in_box systemctl -q is-active yunboxd && in_box yunboxctl version | grep -Fx "yunboxctl $1" &&
		in_box sh -c 'readlink /proc/$(systemctl show -P MainPID yunboxd)/exe' | grep -Fx /usr/lib/yunbox/releases/packaged/yunboxd
}
older_is_refused() {
	! in_box dpkg -i "/root/${deb##*/}" >"$work/refusal" 2>&1 && cat "$work/refusal" && grep -q 'older' "$work/refusal" && runs "$next_version"
}

in_box sh -c 'echo "# changed by somebody" >>/etc/yunbox/yunbox.toml'
pushing "$more"
knocking
check "dpkg -i of the next version, while photos come in" in_box dpkg --force-confold -i "/root/${next_deb##*/}"
check "the next version runs" within 120 runs "$next_version"
check "every upload that ran meanwhile went through" pushed
figure "rounds of uploads" "$(cut -d ' ' -f 2 "$work/pushed")"
knocks=$(silence)
figure "calls on new connections meanwhile" "$knocks"
check "nobody was refused, and nobody cut off" grep '"refused":0,"other":0' <<<"$knocks"
kept+=("$more")
check "all photos are safe, by their hashes" kept_safe
check "settings that somebody changed stay" in_box grep -q 'changed by somebody' /etc/yunbox/yunbox.toml
check "an older version is refused, with words" older_is_refused
check "and the box serves all the same" serving
