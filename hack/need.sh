#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# need.sh TARGET: installs the distribution's packages that the target needs and
# the machine lacks, given as command:package or file:package. It is quiet when
# they are there.
set -eu
PATH=$PATH:/usr/sbin:/sbin

filter='nft:nftables iptables:iptables'
compiler='gcc:gcc /usr/include/stdio.h:libc6-dev'
reader=/usr/include/libnetfilter_queue/libnetfilter_queue.h:libnetfilter-queue-dev
case $1 in
unit) need="$compiler git:git python3:python3 rustc:rustc" ;; # the compiler is the race detector's
netns) need="$filter $compiler $reader" ;;
e2e) need="$filter $compiler $reader iperf3:iperf3 busybox:busybox-static nsenter:util-linux
	systemd-analyze:systemd tshark:tshark
	capinfos:wireshark-common curl:curl" ;;
runtimes | kube) need="$filter $compiler busybox:busybox-static nsenter:util-linux ip:iproute2" ;;
vm) need="$filter gcc:gcc qemu-system-x86_64:qemu-system-x86 xz:xz-utils ip:iproute2" ;;
arm64) need='qemu-system-aarch64:qemu-system-arm aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu' ;;
debug-kernel) need="$compiler flex:flex bison:bison bc:bc /usr/include/libelf.h:libelf-dev
	make:make" ;;
dkms) need='debootstrap:debootstrap dpkg-deb:dpkg' ;;
coccicheck) need='spatch:coccinelle xz:xz-utils' ;;
demo) need="$compiler $reader iptables:iptables busybox:busybox-static curl:curl" ;;
lint) need='gcc:gcc sparse:sparse clang-format-14:clang-format-14 xz:xz-utils
	shellcheck:shellcheck perl:perl' ;;
bench) need="$compiler $reader nft:nftables iperf3:iperf3" ;;
ui) need='chromium:chromium node:nodejs npm:npm
	/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf:fonts-dejavu-core' ;;
image-readers) need='buildah:buildah skopeo:skopeo' ;;
release) need='git:git jq:jq dpkg-deb:dpkg' ;;
docs) need='dot:graphviz /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf:fonts-dejavu-core' ;;
*)
	echo "need.sh: no target $1" >&2
	exit 1
	;;
esac

missing=()
for n in $need; do
	[ -f "${n%%:*}" ] || command -v "${n%%:*}" >/dev/null || missing+=("${n##*:}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

get() {
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 \
		install -y --no-install-recommends "${missing[@]}" >/dev/null
}
echo "installing ${missing[*]}"
get 2>/dev/null || { apt-get -qq update && get; }
