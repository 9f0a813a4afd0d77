#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# fetch.sh DIR: unpacks Debian's Suricata, of bookworm-backports, into DIR/root, with the
# libraries that the machine lacks, unless it is complete. Nothing is installed, and apt's
# own lists and sources stay as they are. Apt checks every package against its signed index.
set -eu -o pipefail

suite=bookworm
mirror=http://deb.debian.org/debian
keys=/usr/share/keyrings/debian-archive-keyring.gpg

[ ! -f "$1/.complete" ] || exit 0
rm -rf "$1"
mkdir -p "$1"/{root,deb,lists/partial,cache/archives/partial}
dir=$(cd "$1" && pwd)
for part in $suite $suite-backports; do
	echo "deb [signed-by=$keys] $mirror $part main"
done >"$dir/sources.list"
options=(-q -q -o "Dir::Etc::sourcelist=$dir/sources.list" -o Dir::Etc::sourceparts=-
	-o "Dir::State::lists=$dir/lists" -o "Dir::Cache=$dir/cache" -o APT::Sandbox::User=root)

# wanted prints Suricata and what it needs beyond what is installed, with versions.
wanted() {
	apt-get "${options[@]}" -s --no-install-recommends -t $suite-backports install suricata |
		sed -n 's/^Inst \([^ ]*\) \(\[[^]]*\] \)\?(\([^ ]*\).*/\1=\3/p'
}

fail() {
	cat "$dir/apt.log" >&2
	exit 1
}

echo "fetch.sh: download Suricata and its libraries into $dir (about 20 MiB, once)" >&2
apt-get "${options[@]}" update >"$dir/apt.log" 2>&1 || fail
packages=$(wanted 2>"$dir/apt.log") || fail
# shellcheck disable=SC2086 # one word for each package
(cd "$dir/deb" && apt-get "${options[@]}" download $packages >"$dir/apt.log" 2>&1) || fail
for deb in "$dir"/deb/*.deb; do
	dpkg-deb -x "$deb" "$dir/root"
done
rm -r "$dir"/{deb,lists,cache}
touch "$dir/.complete"
