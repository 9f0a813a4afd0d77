#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# layers.sh: says where a file uses another one that is not below it. Every .c and .h
# has its place in this order, so nothing calls upwards.
set -eu
cd "$(dirname "$0")/.."

order='compat/compat compat/guard pin config params packet flows stats state settle hook
	arm sysctl proc main'

# place NAME: the number of a name in the order.
place() {
	at=0
	for name in $order; do
		at=$((at + 1))
		if [ "$name" = "$1" ]; then
			echo "$at"
			return
		fi
	done
	echo "layers.sh: $1 has no place in the order" >&2
	return 1
}

failed=0
for file in *.c *.h compat/*.c compat/*.h; do
	from=${file%.[ch]}
	[ "$from" != compat/have ] || continue # made by probe.sh
	own=$(place "$from")
	# shellcheck disable=SC2013 # a header's name is one word
	for header in $(sed -n 's/^#include "\(.*\)\.h"$/\1/p' "$file"); do
		[ "$header" != compat/have ] || continue
		used=$(place "$header")
		if [ "$used" -gt "$own" ]; then
			echo "$file: uses $header.h, which is above it"
			failed=1
		fi
	done
done
exit $failed
