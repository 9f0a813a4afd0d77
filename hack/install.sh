#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# install.sh: installs the programs that are in bin/ below DESTDIR. Where one is
# missing, and there is a go, it has make build them. The environment may say:
#
#   PREFIX            where nsqueued and nsqueuectl go: sbin and bin (/usr/local)
#   CNI_BIN_DIR       where nsqueue goes (/opt/cni/bin)
#   SYSTEMD_UNIT_DIR  where the unit goes, such as /etc/systemd/system (nowhere)
#
# It makes /etc/nsqueue/rules.d, for files of rules.
set -eu
cd "$(dirname "$0")/.."

root=${DESTDIR-}
prefix=${PREFIX:-/usr/local}
plugins=${CNI_BIN_DIR:-/opt/cni/bin}
units=${SYSTEMD_UNIT_DIR-}

missing=
for program in nsqueue nsqueued nsqueuectl; do
	[ -x "bin/$program" ] || missing+=" bin/$program"
done
if [ -n "$missing" ]; then
	command -v go >/dev/null || {
		echo "make install: there is no$missing, and PATH has no go to build with:" \
			"run make build first, as a user whose PATH has it" >&2
		exit 1
	}
	"${MAKE:-make}" --no-print-directory build
fi

install -d "$root$plugins" "$root$prefix/sbin" "$root$prefix/bin"
install -m 755 bin/nsqueue "$root$plugins/nsqueue"
install -m 755 bin/nsqueued "$root$prefix/sbin/nsqueued"
install -m 755 bin/nsqueuectl "$root$prefix/bin/nsqueuectl"
# What is in it is the administrator's: nothing here reads, changes or removes it.
[ -d "$root/etc/nsqueue/rules.d" ] ||
	install -d -m 755 "$root/etc" "$root/etc/nsqueue" "$root/etc/nsqueue/rules.d"
[ -z "$units" ] || {
	install -d "$root$units"
	sed "s,/usr/local/sbin/,$prefix/sbin/," deploy/systemd/nsqueued.service \
		>"$root$units/nsqueued.service"
}
