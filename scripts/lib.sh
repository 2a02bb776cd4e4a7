# shellcheck shell=bash
# What the scripts here have in common. Source it; it changes into the project's folder.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# The same flags everywhere, the package's too, so that one build cache serves all.
# osusergo and netgo: a program that is linked statically cannot load the C library's
# ways to find users and addresses.
export GOFLAGS="-trimpath -tags=sqlite_fts5,sqlite_math_functions,sqlite_stat4,sqlite_omit_load_extension,osusergo,netgo"
export CGO_ENABLED=1
# For SQLite: fdatasync, which spares a commit the journal of the file system, and
# no statistics of memory, which cost a lock at each allocation.
export CGO_CFLAGS="-O2 -DHAVE_FDATASYNC=1 -DSQLITE_DEFAULT_MEMSTATUS=0"

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 2; }

# as_root CMD …: runs it as root, or says that it cannot.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "needs root for: $*"
	fi
}

# need_packages PACKAGE …: installs the Debian packages that are missing.
need_packages() {
	local missing=() package
	for package in "$@"; do
		dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
	done
	[ ${#missing[@]} = 0 ] && return
	command -v apt-get >/dev/null || die "please install: ${missing[*]} (there is no apt-get here to do it)"
	say "installing ${missing[*]}"
	local log
	log=$(mktemp)
	if ! find /var/lib/apt/lists -name '*Packages*' -mmin -1440 2>/dev/null | grep -q .; then
		apt update >"$log" 2>&1 || say "apt-get update failed; trying with the lists that are there"
	fi
	if ! apt install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		die "could not install: ${missing[*]}"
	fi
	rm -f "$log"
}

# RUNLEVEL=1: the programs are wanted, not the services that come with them.
apt() {
	as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -o DPkg::Lock::Timeout=300 -qq "$@"
}

# need_toolchain: Go of the version in go.mod, and a C compiler for SQLite.
need_toolchain() {
	local want have
	want=$(sed -n 's/^go //p' go.mod)
	command -v go >/dev/null || die "needs Go $want or newer: install it from your distribution (Debian: golang) or from https://go.dev/dl/, and put it on the PATH"
	have=$(go env GOVERSION) || exit 2 # go has said why
	[ "$(printf '%s\n%s\n' "$want" "${have#go}" | sort -V | head -n 1)" = "$want" ] ||
		die "needs Go $want or newer, here is ${have#go}: see https://go.dev/dl/"
	command -v "$(go env CC)" >/dev/null || need_packages gcc libc6-dev
}

# build_box: yunboxd and yunboxctl into var/bin.
build_box() {
	mkdir -p var/bin
	go build -ldflags=-s -o var/bin/ ./cmd/yunboxd ./cmd/yunboxctl || die "the build failed"
}

# build_harness NAME: a program of scripts/harness into var/bin.
build_harness() {
	mkdir -p var/bin
	go -C scripts/harness build -o ../../var/bin/ "./cmd/$1" || die "the build failed"
}
