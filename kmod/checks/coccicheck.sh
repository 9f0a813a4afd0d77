#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# coccicheck.sh SCRIPTS: runs the semantic checks of the kernel's folder SCRIPTS/coccinelle
# with spatch. Anything that one says is an error. A file with a mistake comes first: if
# that is not reported, nothing would be.
set -eu
scripts=$1/coccinelle
cd "$(dirname "$0")/.."

dir=$(mktemp -d "${TMPDIR:-/tmp}/nsqueue-coccicheck.XXXXXX")
trap 'rm -rf "$dir"' EXIT

# check COCCI FILE...: what that check has to say.
check() {
	cocci=$1
	shift
	options=$(sed -n 's|^// *Options: *||p' "$cocci" | tr '\n' ' ')
	# shellcheck disable=SC2086 # one word for each option
	spatch -D report --no-show-diff --very-quiet --cocci-file "$cocci" $options "$@" 2>"$dir/errors" || {
		echo "spatch fails with $cocci:"
		cat "$dir/errors"
	}
}

cat >"$dir/mistake.c" <<'END'
#include <linux/slab.h>
int mistake(void *p)
{
	kfree(p);
	return *(int *)p;
}
END
check "$scripts/free/kfree.cocci" "$dir/mistake.c" | grep -q 'mistake\.c:5' || {
	echo "coccicheck.sh: spatch does not find the mistake that is there to be found" >&2
	exit 1
}
count=0
for cocci in $(find "$scripts" -name '*.cocci' | sort); do
	grep -q '^virtual report' "$cocci" || continue
	! grep -q ocaml "$cocci" || continue # needs a compiler of OCaml
	# It wants str_yes_no() and others, which Linux 6.1 does not have.
	[ "${cocci##*/}" != string_choices.cocci ] || continue
	count=$((count + 1))
	check "$cocci" ./*.c compat/guard.c >>"$dir/found"
done
sort -u "$dir/found" >&2
[ ! -s "$dir/found" ]
echo "coccicheck: $count checks, nothing found"
