# shellcheck shell=bash disable=SC2154,SC2016
# A fresh computer gets the package.
scene "Installed"

check "dpkg -i" in_box dpkg -i "/root/${deb##*/}"
check "the daemon runs" in_box systemctl is-active yunboxd.service yunboxd.socket yunboxd-http.socket
check "it runs as its own user, with nothing but that" in_box sh -c '
	pid=$(systemctl show -P MainPID yunboxd) && grep -q "^Uid:[[:space:]]$(id -u yunbox)[[:space:]]" /proc/$pid/status &&
	grep -q "^CapEff:[[:space:]]0*$" /proc/$pid/status && grep -q "^Seccomp:[[:space:]]2" /proc/$pid/status'
check "answers HTTPS on 443" serving
port80() { in_house curl -sS -o /dev/null -w '%{http_code} %{redirect_url}' "http://$box_ip/" | grep -x "307 https://$box_ip/"; }
check "port 80 shows the way to HTTPS" port80
check "port 21 is closed: FTP is off" refused in_house curl -sS --max-time 5 "ftp://$box_ip/"
check "the version is the package's" in_box sh -c "yunboxctl version | grep -Fx 'yunboxctl $version'"
check "yunboxctl finds the box by itself" in_box yunboxctl status
check "manual pages, completion, settings" in_box test -e /etc/yunbox/yunbox.toml -a -e /usr/share/bash-completion/completions/yunboxctl
ready() {
	local from to
	from=$(in_box systemctl show -P ExecMainStartTimestampMonotonic yunboxd)
	to=$(in_box systemctl show -P ActiveEnterTimestampMonotonic yunboxd)
	ready_ms=$(((to - from) / 1000))
}
ready && figure "from the start of the daemon to READY (1000 are promised)" "$ready_ms ms"
figure "exposure as the running systemd counts it" "$(in_box systemd-analyze security --no-pager yunboxd.service | sed -n 's/.*yunboxd.service: *//p')"
