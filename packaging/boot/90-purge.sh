# shellcheck shell=bash disable=SC2154
# Purged: settings go, photos stay until somebody says otherwise in so many words.
# Needs: 10 30
scene "Purged"
purge_speaks() { in_box dpkg -P yunbox 2>&1 | tee "$work/purge" && grep -q 'rm -rf /var/lib/yunbox' "$work/purge"; }
check "dpkg -P says what it leaves, and how to remove it" purge_speaks
check "settings are gone" in_box sh -c '! test -e /etc/yunbox'
check "the photos are where they were, and their user with them" kept_on_disk
check "dpkg -i on top of what was left" in_box dpkg -i "/root/${next_deb##*/}"
check "it serves" within 120 serving
check "all photos are safe, by their hashes" kept_safe
check "dpkg -P of everything" in_box env YUNBOX_PURGE=everything dpkg -P yunbox
check "nothing is left" in_box sh -c '! test -e /var/lib/yunbox && ! test -e /etc/yunbox && ! test -e /usr/lib/yunbox && ! getent passwd yunbox'
