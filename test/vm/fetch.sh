#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Puts Debian's kernels, their headers and busybox into a cache folder, by
# `apt-get download` and `dpkg -x`. A kernel has a name:
#
#   6.12                   the newest one of the series that the machine's apt has
#   SUITE/FLAVOUR          the newest one of a suite of Debian: trixie-backports/amd64,
#                          trixie/rt-amd64
#   SUITE/FLAVOUR/ARCH     the same of another architecture: bookworm/arm64/arm64
#
# For a suite there is an apt of its own in the cache, with sources, lists and
# state of its own. Of the machine, only apt's lists are brought up to date, and
# only where they do not have what is asked for. Apt has checked every package
# against its signed index.
#
#   fetch.sh NAME...            prints "busybox FILE", and for each NAME
#                               "NAME KDIR" and, where the machine may lack the
#                               compiler, "NAME.root ROOT" for inroot.sh
#   fetch.sh --tools ARCH       prints "tools-ARCH ROOT": what a guest of that
#                               architecture runs beside its tests
#   fetch.sh --source SERIES    prints "source-SERIES FILE": the archive of that series
#   fetch.sh --scripts SERIES   prints "scripts-SERIES DIR": those of its folder scripts that
#                               check code
#   fetch.sh --refresh NAME...  the same, and looks for a newer package first
#
# A kernel that is in the cache costs no apt call, so a machine without a
# network can run the tests again; where a refresh fails, the cache is used.
set -eu

cache=${NSQUEUE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nsqueue}/vm
mirror=http://deb.debian.org/debian
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
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

# use_suite SUITE ARCH: from here on apt is the one of that suite.
use_suite() {
	apt=$cache/apt/$1-$2
	export APT_CONFIG="$apt/apt.conf"
	updated=no
	[ ! -e "$apt/apt.conf" ] || return 0
	mkdir -p "$apt/etc/apt.conf.d" "$apt/etc/preferences.d" "$apt/state/lists/partial" \
		"$apt/cache/archives/partial"
	: >"$apt/state/status"
	echo "deb [arch=$2 signed-by=$keyring] $mirror $1 main" >"$apt/etc/sources.list"
	cat >"$apt/apt.conf" <<-END
		Dir::Etc "$apt/etc";
		Dir::State "$apt/state";
		Dir::State::status "$apt/state/status";
		Dir::Cache "$apt/cache";
		APT::Architecture "$2";
		APT::Architectures "$2";
		APT::Sandbox::User "root";
		Acquire::Languages "none";
	END
	echo "fetch.sh: apt-get update of $1, $2" >&2
	apt-get -qq update >&2 || : # where it fails, nothing is found, and it is tried again
}

use_machine() {
	unset APT_CONFIG
	updated=no
}

# unpack DIR PACKAGE...: downloads and extracts them below DIR, which is new.
unpack() {
	target=$1
	shift
	rm -rf "$target"
	mkdir -p "$target/deb" "$target/root" || return 1
	echo "fetch.sh: download $*" >&2
	(cd "$target/deb" && apt-get download -q -q "$@" >"$target/apt.log" 2>&1) || {
		cat "$target/apt.log" >&2
		return 1
	}
	for deb in "$target"/deb/*.deb; do
		dpkg -x "$deb" "$target/root" || return 1
	done
	rm -r "$target/deb"
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

# parts PACKAGE...: the packages, and what a kernel's is made of that they need.
parts() {
	for package; do
		echo "$package"
		# shellcheck disable=SC2046 # one word for each package
		parts $(apt-cache depends --no-recommends --no-suggests "$package" |
			awk '$1 == "Depends:" {print $2}' |
			grep -E '^linux-(binary|modules|headers|kbuild)-')
	done
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

# add_kbuild DIR SUITE: puts programs of this machine's architecture in the place of
# those that the headers of another one came with.
add_kbuild() {
	kbuild=$(basename "$1"/root/usr/lib/linux-kbuild-*)
	use_suite "$2" "$arch"
	persist unpack "$1/kbuild" "$kbuild" || return 1
	cp -a "$1/kbuild/root/." "$1/root/"
	rm -r "$1/kbuild"
}

# unpack_release RELEASE NAME ARCH SUITE: has the kernel in the cache, and a link to it.
unpack_release() {
	dir=$cache/kernel-$1
	if [ ! -e "$dir/complete" ]; then
		# shellcheck disable=SC2046 # one word for each package
		unpack "$dir" $(parts "linux-image-$1" "linux-headers-$1") || return 1
		[ "$3" = "$arch" ] || add_kbuild "$dir" "$4" || return 1
		[ -e "$dir/root/lib" ] || ln -s usr/lib "$dir/root/lib"
		if [ ! -e "$dir/root/boot" ]; then
			mkdir "$dir/root/boot"
			ln -s "../lib/modules/$1/vmlinuz" "$dir/root/boot/vmlinuz-$1"
		fi
		relocate "$dir/root" "$1" || return 1
		echo "$dir/root/usr/src/linux-headers-$1" >"$dir/complete"
	fi
	mkdir -p "$(dirname "$cache/$2")"
	ln -sfnr "$dir" "$cache/$2"
}

# unpack_newest SERIES
unpack_newest() {
	release=$(newest "$1")
	[ -n "$release" ] || {
		echo "fetch.sh: apt knows no Debian kernel of series $1" >&2
		return 1
	}
	unpack_release "$release" "$1" "$arch" -
}

# unpack_flavour FLAVOUR NAME ARCH SUITE: the one that the suite's package linux-image-FLAVOUR is for.
unpack_flavour() {
	release=$(apt-cache depends "linux-image-$1" 2>/dev/null |
		sed -n 's/^ *Depends: linux-image-\([0-9].*\)$/\1/p' | head -n 1)
	[ -n "$release" ] || {
		echo "fetch.sh: this suite of Debian has no linux-image-$1" >&2
		return 1
	}
	unpack_release "$release" "$2" "$3" "$4"
}

fetch_kernel() {
	complete=$cache/$1/complete
	if [ "$refresh" = yes ] || [ ! -e "$complete" ]; then
		case $1 in
		*/*)
			suite=${1%%/*}
			flavour=${1#*/}
			use_suite "$suite" "$(architecture "$1")"
			persist unpack_flavour "${flavour%%/*}" "$1" "$(architecture "$1")" "$suite"
			use_machine
			;;
		*) persist unpack_newest "$1" ;;
		esac || [ -e "$complete" ] || die "no Debian kernel $1"
	fi
	echo "$1 $(cat "$complete")"
	case $1 in
	*/*/*) ;; # has a compiler of the machine's
	*/*) fetch_root "$1" "${1%%/*}" "$(cat "$complete")" ;;
	esac
}

architecture() {
	case $1 in
	*/*/*) echo "${1##*/}" ;;
	*) echo "$arch" ;;
	esac
}

# unpack_closure DIR PACKAGE...: has them below DIR with all that they need.
unpack_closure() {
	dir=$1
	shift
	all=$(apt-get install -s --no-install-recommends "$@" | awk '$1 == "Inst" {print $2}')
	[ -n "$all" ] || return 1
	# shellcheck disable=SC2086 # one word for each package
	unpack "$dir.new" $all || return 1
	rm -rf "$dir"
	mv "$dir.new" "$dir"
}

# unpack_compiler DIR COMPILER: the compiler, what a Makefile calls, and what kbuild's
# programs need, whose packages have other names since trixie.
unpack_compiler() {
	libraries=
	for library in libelf1 libssl3; do
		apt-cache show "${library}t64" >/dev/null 2>&1 && library=${library}t64
		libraries="$libraries $library"
	done
	# shellcheck disable=SC2086 # one word for each library
	unpack_closure "$1" "$2" make mawk dash bash coreutils sed grep findutils diffutils kmod \
		$libraries
}

# fetch_root NAME SUITE KDIR: the suite's compiler and what goes with it. It may be newer
# than the machine's.
fetch_root() {
	suite=${2%-backports}
	root=$cache/root-$suite
	if [ ! -e "$root/complete" ]; then
		compiler=$(sed -n 's/^CC = .*\(gcc-[0-9]*\)$/\1/p' "$3/.kernelvariables")
		use_suite "$suite" "$arch"
		persist unpack_compiler "$root" "${compiler:-gcc}" >&2 ||
			die "no compiler of Debian's $suite"
		use_machine
		ln -sf mawk "$root/root/usr/bin/awk"
		: >"$root/complete"
	fi
	echo "$1.root $root/root"
}

fetch_tools() {
	root=$cache/tools-$1
	if [ ! -e "$root/complete" ]; then
		use_suite bookworm "$1"
		persist unpack_closure "$root" busybox-static iproute2 nftables iptables >&2 ||
			die "no tools for $1"
		use_machine
		: >"$root/complete"
	fi
	echo "tools-$1 $root/root"
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

# fetch_source SERIES: of the suite that has supported it longest.
fetch_source() {
	dir=$cache/source-$1
	if [ ! -e "$dir/complete" ]; then
		use_suite trixie "$arch"
		persist unpack "$dir" "linux-source-$1" >&2 || die "no source of Linux $1"
		use_machine
		: >"$dir/complete"
	fi
	echo "source-$1 $dir/root/usr/src/linux-source-$1.tar.xz"
}

fetch_scripts() {
	fetch_source "$1" >/dev/null
	dir=$cache/source-$1
	if [ ! -e "$dir/scripts/complete" ]; then
		rm -rf "$dir/scripts"
		mkdir "$dir/scripts"
		tar -xJf "$dir/root/usr/src/linux-source-$1.tar.xz" -C "$dir/scripts" --strip-components 2 \
			--wildcards '*/scripts/checkpatch.pl' '*/scripts/spelling.txt' \
			'*/scripts/const_structs.checkpatch' '*/scripts/coccinelle' ||
			die "no scripts in the source of Linux $1"
		: >"$dir/scripts/complete"
	fi
	echo "scripts-$1 $dir/scripts"
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
while :; do
	case ${1-} in
	--tools | --source | --scripts) "fetch_${1#--}" "$2" ;;
	*) break ;;
	esac
	shift 2
done
for name in "$@"; do
	fetch_kernel "$name"
done
