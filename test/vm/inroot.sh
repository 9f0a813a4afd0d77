#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# inroot.sh ROOT DIR:... COMMAND...: runs a command in the file system below ROOT, with
# the folders DIR, separated by colons, at their own paths. It needs no right but to make
# a user namespace, and leaves no mount behind.
set -eu

if [ "${1-}" != --inside ]; then
	if [ "$(id -u)" = 0 ]; then
		exec unshare --mount "$0" --inside "$@"
	fi
	exec unshare --user --map-root-user --mount "$0" --inside "$@"
fi
shift
root=$1
dirs=$2
shift 2
mount --make-rprivate /
for dir in $(echo "$dirs" | tr ':' ' ') /dev /tmp; do
	mkdir -p "$root$dir"
	mount --rbind "$dir" "$root$dir"
done
mkdir -p "$root/proc"
mount --rbind /proc "$root/proc"
PATH=/usr/sbin:/usr/bin:/sbin:/bin exec chroot "$root" "$@"
