#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Puts Debian's kernels, their headers and busybox into a cache folder, by
# `apt-get download` and `dpkg -x`: nothing of the machine is changed, and apt
# has checked every package against its signed index.
#
#   fetch.sh 6.1 6.12        prints "busybox FILE", and "SERIES KDIR" for each
#   fetch.sh --refresh 6.12  the same, and looks for a newer package first
#
# A series that is in the cache costs no apt call, so a machine without a
# network can run the tests again.
set -eu

cache=${NSQUEUE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nsqueue}/vm
refresh=no
arch=$(dpkg --print-architecture)

die() {
	echo "fetch.sh: $*" >&2
	exit 1
}

# unpack DIR PACKAGE...: downloads and extracts them below DIR.
unpack() {
	dir=$1
	shift
	mkdir -p "$dir/deb" "$dir/root"
	echo "fetch.sh: download $*" >&2
	(cd "$dir/deb" && apt-get download -q -q "$@" >"$dir/apt.log" 2>&1) || {
		cat "$dir/apt.log" >&2
		die "apt-get download $*"
	}
	for deb in "$dir"/deb/*.deb; do
		dpkg -x "$deb" "$dir/root"
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
	sed -i "s|/usr/src/|$1/usr/src/|g" "$headers/Makefile"
	find "$headers" -maxdepth 1 -type l | while read -r link; do
		to=$(readlink "$link")
		case $to in
		/*) ln -sfn "$1$to" "$link" ;;
		esac
	done
}

fetch_kernel() {
	series=$1
	link=$cache/$series
	if [ "$refresh" = no ] && [ -e "$link/complete" ]; then
		echo "$series $(cat "$link/complete")"
		return
	fi
	release=$(newest "$series")
	[ -n "$release" ] || die "no Debian kernel of series $series (apt-get update?)"
	dir=$cache/kernel-$release
	if [ ! -e "$dir/complete" ]; then
		rm -rf "$dir"
		# shellcheck disable=SC2046 # one word for each package
		unpack "$dir" "linux-image-$release" $(header_packages "$release")
		relocate "$dir/root" "$release"
		echo "$dir/root/usr/src/linux-headers-$release" >"$dir/complete"
	fi
	ln -sfn "kernel-$release" "$link"
	echo "$series $(cat "$dir/complete")"
}

fetch_busybox() {
	dir=$cache/busybox
	[ "$refresh" = no ] && [ -e "$dir/complete" ] && return
	rm -rf "$dir"
	unpack "$dir" busybox-static
	: >"$dir/complete"
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
