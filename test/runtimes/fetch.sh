#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Puts Debian's containerd, runc, etcd and podman, with the libraries that the
# machine lacks, into a folder that the tests lay over a node's root: of the
# machine only apt's lists are brought up to date, where they are too old. Apt
# has checked every package against its signed index.
#
#   fetch.sh DIR    fills DIR/root, unless it is complete
set -eu -o pipefail

dir=$1
wanted=(containerd runc etcd-server podman conmon)

[ ! -f "$dir/.complete" ] || exit 0

# missing prints the packages that are wanted, and what they need beyond what is
# installed; lines of packages to upgrade have the old version in brackets.
missing() {
	apt-get install -s --no-install-recommends "${wanted[@]}" |
		awk '/^Inst/ && $3 !~ /^\[/ {print $2}'
}

download() {
	rm -rf "$dir"
	mkdir -p "$dir/deb" "$dir/root"
	needed=$(missing) || return
	mapfile -t packages < <(printf '%s\n' "${wanted[@]}" "$needed" | sed '/^$/d' | sort -u)
	(cd "$dir/deb" && apt-get download -q -q "${packages[@]}" >"$dir/apt.log" 2>&1)
}

echo "fetch.sh: download ${wanted[*]}" >&2
download || { apt-get -qq update >&2 && download; } || {
	cat "$dir/apt.log" >&2
	exit 1
}
for deb in "$dir"/deb/*.deb; do
	dpkg -x "$deb" "$dir/root"
done
# On a merged /usr these are links; a directory would hide them.
for d in bin sbin lib lib64; do
	[ -d "$dir/root/$d" ] || continue
	mkdir -p "$dir/root/usr/$d"
	cp -a "$dir/root/$d/." "$dir/root/usr/$d/"
	rm -r "$dir/root/$d"
done
rm -r "$dir/deb"
touch "$dir/.complete"
