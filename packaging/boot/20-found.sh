# shellcheck shell=bash disable=SC2154
# Somebody in the house looks for boxes.
# Needs: 10
scene "Found"
found() { in_house avahi-browse -rpt _yunbox._tcp >"$work/browse" 2>&1 && grep '^=.*;443;' "$work/browse"; }
check "avahi-browse in the house finds and resolves it" within 120 found
