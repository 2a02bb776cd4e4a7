# shellcheck shell=bash disable=SC2154
# Everything ends at once, in the middle of an upload.
# Needs: 10 30
scene "Cut off"
cut=$work/house/cut
pushing "$cut"
sleep 1
cut_power
boot && check "it boots again" in_box systemctl is-active yunboxd.socket
check "and serves" within 120 serving
sleep 1
check "the upload that was cut off went on by itself" pushed
kept+=("$cut")
check "all photos are safe, by their hashes" kept_safe
