# shellcheck shell=bash disable=SC2154
# The owner binds the box and backs photos up from the house.
# Needs: 10
scene "Used"
photos=$work/house/photos
fill "$photos" 60 200000
json() { sed -n "s/.*\"$1\": *\"\\([^\"]*\\)\".*/\\1/p" | head -n 1; }
owned() {
	box status --json | json fingerprint >"$work/house/fingerprint"
	box label --json | json pair_uri >"$work/house/pair"
	echo 'correct horse battery staple' | person bind --pair "$(cat "$work/house/pair")" --username ada --password-stdin
	person policy accept --yes
	person consent grant album_backup --yes
}
check "the owner binds it with the label, and consents" owned
check "60 photos are pushed" person push "$photos" --source album
kept+=("$photos")
check "all of them are safe, by their hashes" kept_safe
