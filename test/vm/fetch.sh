#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Puts Debian's kernels, their headers and busybox into a cache folder, by
# `apt-get download` and `dpkg -x`: of the machine only apt's lists are brought
# up to date, where they do not have what is asked for. Apt has checked every
# package against its signed index.
#
#   fetch.sh 6.1 6.12        prints "busybox FILE", and "SERIES KDIR" for each
#   fetch.sh --refresh 6.12  the same, and looks for a newer package first
#
# A series that is in the cache costs no apt call, so a machine without a
# network can run the tests again; where a refresh fails, the cache is used.
set -eu

cache=${NSQUEUE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nsqueue}/vm
refresh=no
updated=no
arch=$(dpkg --print-architecture)

die() {
	echo "fetch.sh: $*" >&2
	exit 1
}

# persist COMMAND...: runs it, and where it fails, once more with new lists: old
# ones lack a package, or name one that no mirror carries any more. A machine
# may also have none yet. (In here a failing command does not end the script, so
# the commands return.)
persist() {
	"$@" && return
	[ "$updated" = no ] || return 1
	updated=yes
	echo "fetch.sh: apt-get update" >&2
	apt-get -qq update >&2 || return 1
	"$@"
}

# unpack DIR PACKAGE...: downloads and extracts them below DIR, which is new.
unpack() {
	dir=$1
	shift
	rm -rf "$dir"
	mkdir -p "$dir/deb" "$dir/root" || return 1
	echo "fetch.sh: download $*" >&2
	(cd "$dir/deb" && apt-get download -q -q "$@" >"$dir/apt.log" 2>&1) || {
		cat "$dir/apt.log" >&2
		return 1
	}
	for deb in "$dir"/deb/*.deb; do
		dpkg -x "$deb" "$dir/root" || return 1
	done
	rm -r "$dir/deb"
}

# newest SERIES: the newest packaged release of that series, 6.1.0-56-amd64.
newest() {
	pattern="^linux-image-$(echo "$1" | sed 's/\./\\./g')\\.[0-9][0-9a-z.+]*(-[0-9]+)?-$arch\$"
	apt-cache search --names-only "$pattern" | awk '{print $1}' |
		sed 's/^linux-image-//' | sort -V | while read -r release; do
		# An index may name a package that no mirror carries any more.
		if apt-cache policy "linux-headers-$release" | grep -q 'Candidate: [0-9]'; then
			echo "$release"
		fi
	done | tail -n 1
}

# header_packages RELEASE: the headers and what they need to build a module.
header_packages() {
	echo "linux-headers-$1"
	apt-cache depends --no-recommends --no-suggests "linux-headers-$1" |
		awk '$1 == "Depends:" {print $2}' | grep -E '^linux-(headers|kbuild)-'
}

# relocate ROOT RELEASE: the extracted Makefile includes the common headers by
# absolute path, and some links are absolute too. The vmlinux beside it is there
# for BTF, which a module does not need and which would ask for pahole.
relocate() {
	headers=$1/usr/src/linux-headers-$2
	rm -f "$headers/vmlinux"
	sed -i "s|/usr/src/|$1/usr/src/|g" "$headers/Makefile" || return 1
	find "$headers" -maxdepth 1 -type l | while read -r link; do
		to=$(readlink "$link")
		case $to in
		/*) ln -sfn "$1$to" "$link" ;;
		esac
	done
}

# unpack_newest SERIES: has the newest release in the cache, and a link to it.
unpack_newest() {
	release=$(newest "$1")
	[ -n "$release" ] || {
		echo "fetch.sh: apt knows no Debian kernel of series $1" >&2
		return 1
	}
	dir=$cache/kernel-$release
	if [ ! -e "$dir/complete" ]; then
		# shellcheck disable=SC2046 # one word for each package
		unpack "$dir" "linux-image-$release" $(header_packages "$release") &&
			relocate "$dir/root" "$release" || return 1
		echo "$dir/root/usr/src/linux-headers-$release" >"$dir/complete"
	fi
	ln -sfn "kernel-$release" "$cache/$1"
}

fetch_kernel() {
	complete=$cache/$1/complete
	if [ "$refresh" = yes ] || [ ! -e "$complete" ]; then
		persist unpack_newest "$1" || [ -e "$complete" ] ||
			die "no Debian kernel of series $1"
	fi
	echo "$1 $(cat "$complete")"
}

fetch_busybox() {
	complete=$cache/busybox/complete
	[ "$refresh" = no ] && [ -e "$complete" ] && return
	# The old one stays until there is a new one.
	if persist unpack "$cache/busybox.new" busybox-static; then
		rm -rf "$cache/busybox"
		mv "$cache/busybox.new" "$cache/busybox"
		: >"$complete"
	fi
	[ -e "$complete" ] || die "no busybox"
}

if [ "${1-}" = --refresh ]; then
	refresh=yes
	shift
fi
mkdir -p "$cache"
# Two runs at once would extract over each other.
exec 9>"$cache/lock"
flock 9
fetch_busybox
echo "busybox $cache/busybox/root/bin/busybox"
for series in "$@"; do
	fetch_kernel "$series"
done
