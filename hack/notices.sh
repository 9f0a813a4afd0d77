#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# notices.sh [MODULE PACKAGE...]: prints the licences and notices of everything of others
# that the programs consist of: those of a Go module's directory, else nsqueue's three.
# A module that has none is an error.
set -eu -o pipefail
cd "$(dirname "$0")/.."

# texts DIR TOP: the files in DIR, and in what is above it up to TOP.
texts() {
	local dir=$1
	while :; do
		find "$dir" -maxdepth 1 -type f -regextype posix-extended \
			-iregex '.*/(licen[cs]e|copying|notice|patents)[^/]*'
		[ "$dir" != "$2" ] || break
		dir=$(dirname "$dir")
	done
}

# notice NAME TOP FILE...: prints the files of a module.
notice() {
	local name=$1 top=$2 file
	shift 2
	[ $# -gt 0 ] || {
		echo "notices.sh: $name has no licence" >&2
		return 1
	}
	for file; do
		printf '=== %s: %s\n\n' "$name" "${file#"$top/"}"
		cat "$file"
		printf '\n\n'
	done
}

cat <<'END'
The programs of nsqueue contain parts of the following works. Each is followed by
its licence and its notices.

END
root=$(go env GOROOT)
notice "Go's standard library $(go env GOVERSION)" "$root" "$root/LICENSE" "$root/PATENTS"

[ $# -gt 0 ] || set -- . ./plugin ./daemon ./ctl
module=$1
shift
fields='{{.Path}} {{.Version}}	{{.Dir}}'
modules=$(go -C "$module" list -deps \
	-f "{{with .Module}}{{if not .Main}}$fields	{{\$.Dir}}{{end}}{{end}}" "$@" |
	awk '$1 != "github.com/nsqueue/nsqueue"' | sort)
cut -f 1,2 <<<"$modules" | uniq | while IFS=$'\t' read -r name top; do
	mapfile -t files < <(
		awk -F '\t' -v name="$name" '$1 == name {print $3}' <<<"$modules" |
			while read -r dir; do texts "$dir" "$top"; done | sort -u
	)
	notice "$name" "$top" "${files[@]}"
done
