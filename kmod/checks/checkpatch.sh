#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# checkpatch.sh SCRIPTS: runs the kernel's checkpatch.pl of that folder. What it finds
# must be in the list of accepted exceptions, and each exception must be found.
set -eu
scripts=$1
cd "$(dirname "$0")/.."

dir=$(mktemp -d "${TMPDIR:-/tmp}/nsqueue-checkpatch.XXXXXX")
trap 'rm -rf "$dir"' EXIT

# It exits with 1 where it finds anything; what it says is judged below.
"$scripts/checkpatch.pl" --no-tree --strict --terse --show-types -f \
	./*.c ./*.h compat/*.c compat/compat.h compat/guard.h >"$dir/all" 2>"$dir/errors" || :
if [ -s "$dir/errors" ] || ! grep -q ' lines checked$' "$dir/all"; then
	cat "$dir/errors" "$dir/all" >&2
	exit 1
fi
sed -n 's|^\(\./\)*\([^:]*\):[0-9]*: [A-Z]*:\([A-Z_]*\): .*|\2 \3|p' "$dir/all" | sort -u >"$dir/found"
sed 's/ *#.*//' checks/checkpatch.accepted | grep . | sort -u >"$dir/accepted"
failed=0
comm -23 "$dir/found" "$dir/accepted" | while read -r file kind; do
	grep "$file:.*:$kind:" "$dir/all"
done | { ! grep . >&2; } || failed=1
comm -13 "$dir/found" "$dir/accepted" |
	sed 's/$/: accepted, and not found any more/' | { ! grep . >&2; } || failed=1
exit $failed
