# shellcheck shell=bash disable=SC2154
# The daemon hangs, in two ways that only a watchdog notices. It has three minutes in
# real life, and three seconds here.
# Needs: 10 30
scene "Hung"
in_box sh -c 'mkdir -p /run/systemd/system/yunboxd.service.d &&
	printf "[Service]\nWatchdogSec=3\nTimeoutAbortSec=2\nStartLimitBurst=50\n" >/run/systemd/system/yunboxd.service.d/boot.conf &&
	systemctl daemon-reload && systemctl restart yunboxd'

pid_now() { in_box systemctl show -P MainPID yunboxd; }
another_runs() { [ "$(pid_now)" != "$1" ] && [ "$(pid_now)" != 0 ] && in_box systemctl -q is-active yunboxd && serving; }

before=$(pid_now)
in_box sh -c "kill -STOP $before"
check "a daemon that stands still is replaced" within 120 another_runs "$before"

before=$(pid_now)
sqlite3 "$root/var/lib/yunbox/box.db" "BEGIN IMMEDIATE;" ".shell sleep 12" >"$work/locked" 2>&1 &
locked=$!
twice() { [ "$(journal | grep -c 'Watchdog timeout')" -ge 2 ]; }
check "a database that takes no change ends it by the watchdog" within 120 twice
check "and the daemon replaced, which serves when the database does" within 120 another_runs "$before"
wait "$locked" || true
check "nothing was lost" kept_safe
in_box sh -c 'rm /run/systemd/system/yunboxd.service.d/boot.conf && systemctl daemon-reload && systemctl restart yunboxd'
