#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test.sh: installs, upgrades and removes the DKMS package in a chroot of Debian stable,
# with headers of its kernel and without. The chroot is in the cache of test/vm, and each
# test works on a copy. It needs root.
set -eu -o pipefail
cd "$(dirname "$0")/.."

suite=trixie
mirror=http://deb.debian.org/debian
cache=${NSQUEUE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nsqueue}/dkms
base=$cache/$suite
work=$(mktemp -d "${TMPDIR:-/tmp}/nsqueue-dkms-test.XXXXXX")
trap 'umount -l "$work/root/proc" 2>/dev/null || :; rm -rf "$work"' EXIT

die() {
	echo "test.sh: $*" >&2
	exit 1
}

# A package manager's scripts run in there.
inside() {
	env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
		chroot "$work/root" "$@"
}

make_base() {
	[ ! -e "$base/complete" ] || return 0
	echo "test.sh: debootstrap $suite (some minutes, once)"
	rm -rf "$base"
	mkdir -p "$base"
	debootstrap --variant=minbase --include=dkms,make,gcc "$suite" "$base/root" "$mirror" \
		>"$base/log" 2>&1 || { tail "$base/log" >&2; die 'debootstrap failed'; }
	chroot "$base/root" apt-get -qq install -y --no-install-recommends linux-headers-amd64 \
		>>"$base/log" 2>&1 || { tail "$base/log" >&2; die 'no headers'; }
	: >"$base/complete"
}

fresh_root() {
	umount -l "$work/root/proc" 2>/dev/null || :
	rm -rf "$work/root"
	cp -a "$base/root" "$work/root"
	mount -t proc proc "$work/root/proc"
	cp "$work"/*.deb "$work/root/root/"
}

# package VERSION: the package, with another version than the source's.
package() {
	local dir=$work/source-$1
	mkdir "$dir"
	cp -a ./* .clang-format "$dir/"
	rm -rf "$dir/build"
	sed -i "s/^PACKAGE_VERSION=.*/PACKAGE_VERSION=\"$1\"/" "$dir/dkms.conf"
	make -s -C "$dir" deb-dkms >/dev/null
	cp "$dir"/build/nsqueue-dkms_*.deb "$work/"
}

# says LOG TEXT...
says() {
	local log=$1 text
	shift
	for text; do
		grep -qF "$text" "$log" || { cat "$log" >&2; die "it does not say: $text"; }
	done
}

installed() { inside dkms status -m nsqueue; }
modules() { find "$work/root/lib/modules/" "$work/root/usr/lib/modules/" -name 'nsqueue.ko*' | sort -u; }

make_base
package 0.0.1
package 0.0.2

echo 'test.sh: install, upgrade, remove'
fresh_root
inside dpkg -i /root/nsqueue-dkms_0.0.1_all.deb >"$work/log" 2>&1 || { cat "$work/log"; die install; }
installed | grep -q '0\.0\.1.*: installed' || { cat "$work/log"; die "not installed: $(installed)"; }
says "$work/log" "the running kernel, $(uname -r), has no headers here"
[ -n "$(modules)" ] || die 'no module after the installation'
inside dpkg --verify nsqueue-dkms | { ! grep .; } || die 'dpkg finds files changed'
inside dpkg -i /root/nsqueue-dkms_0.0.2_all.deb >"$work/log" 2>&1 || { cat "$work/log"; die upgrade; }
installed | grep -q '0\.0\.2.*: installed' || { cat "$work/log"; die "not upgraded: $(installed)"; }
installed | { ! grep '0\.0\.1'; } || die 'the old version is still there'
[ "$(inside modinfo -F version "$(modules | head -n 1 | sed "s|^$work/root||")")" = 0.0.2 ] ||
	die 'the module is not that of the new version'
inside dpkg -r nsqueue-dkms >"$work/log" 2>&1 || { cat "$work/log"; die remove; }
[ -z "$(installed)" ] || die "after the removal: $(installed)"
[ -z "$(modules)" ] || die "modules after the removal: $(modules)"
[ ! -e "$work/root/usr/src/nsqueue-0.0.2" ] || die 'source after the removal'

echo 'test.sh: without headers'
fresh_root
rm -rf "$work"/root/lib/modules/* "$work"/root/usr/lib/modules/*
inside dpkg -i /root/nsqueue-dkms_0.0.1_all.deb >"$work/log" 2>&1 || { cat "$work/log"; die install; }
says "$work/log" "the running kernel, $(uname -r), has no headers here" \
	'built for no kernel of this machine'
inside dpkg -r nsqueue-dkms >"$work/log" 2>&1 || { cat "$work/log"; die remove; }
echo 'test.sh: passed'
