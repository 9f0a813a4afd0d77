#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# busy.sh TARGET ROUNDS: makes the target again and again on a busy machine:
# beside two loops and a writer that keeps the disk at work. The last lines name
# each round with its time and result; the exit code is 1 where one failed.
set -u
cd "$(dirname "$0")/.." || exit

target=$1
rounds=$2
# /tmp is often memory, which keeps no disk busy.
dir=$(mktemp -d "${TMPDIR:-/var/tmp}/nsqueue-busy.XXXXXX") || exit
load=()

# The load also ends when this script was killed: $$ is its process.
spin() {
	while kill -0 $$ 2>/dev/null; do :; done
}

scribble() {
	local writer=
	trap '[ -z "$writer" ] || { kill "$writer"; wait "$writer"; }; exit' TERM
	while kill -0 $$ 2>/dev/null && [ -d "$dir" ]; do
		dd if=/dev/zero of="$dir/file" bs=1M count=256 conv=fsync,notrunc status=none &
		writer=$!
		wait $writer
	done
}

# shellcheck disable=SC2317 # the trap calls it
finish() {
	[ ${#load[@]} = 0 ] || kill "${load[@]}" 2>/dev/null
	wait
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

spin &
load+=($!)
spin &
load+=($!)
scribble &
load+=($!)

# No result of an earlier round may stand for one of this.
export GOFLAGS="${GOFLAGS-} -count=1"
failed=0
summary=()
for round in $(seq "$rounds"); do
	echo "==> round $round of $rounds: make $target beside two loops and a disk writer"
	start=$SECONDS
	result=ok
	"${MAKE:-make}" --no-print-directory "$target" || result=FAILED
	for pid in "${load[@]}"; do
		kill -0 "$pid" 2>/dev/null || result='FAILED: the load ended early'
	done
	[ "$result" = ok ] || failed=1
	summary+=("    round $round: make $target: $((SECONDS - start)) s, $result")
done
printf '==> busy machine\n'
printf '%s\n' "${summary[@]}"
exit $failed
