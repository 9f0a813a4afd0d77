#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# apidiff.sh: compares the public Go packages with those of the last release. It
# fails where a program that was written for that release would not build any
# more, unless kmod/dkms.conf has a version that may break programs: one with
# another major number or, before 1.0, with another minor number.
set -eu -o pipefail
cd "$(dirname "$0")/.."

module=$(sed -n 's/^module //p' go.mod)
packages='daemon/api daemon/inspect daemon/node daemon/rules'
apidiff=$PWD/bin/tools/apidiff

# A .git further up is another project's.
if ! [ -e .git ] || ! tag=$(git describe --tags --abbrev=0 \
	--match 'v[0-9]*' --exclude '*-*' 2>/dev/null); then
	echo 'apidiff: no release to compare with'
	exit
fi
old=$(mktemp -d)
trap 'rm -rf "$old"' EXIT
mkdir "$old/source"
git archive "$tag" | tar -x -C "$old/source"

# incompatible PACKAGE: prints the changes that break programs.
incompatible() {
	[ -d "$old/source/$1" ] || return 0 # new since the release
	[ -d "$1" ] || {
		echo '- package: removed'
		return
	}
	(cd "$old/source" && "$apidiff" -w "$old/export" "$module/$1") &&
		"$apidiff" -incompatible "$old/export" "$module/$1"
}

# series VERSION: prints the part of the version that changes with such changes.
series() {
	case $1 in
	0.*) echo "$1" | cut -d. -f1,2 ;;
	*) echo "${1%%.*}" ;;
	esac
}

broken=
for package in $packages; do
	changes=$(incompatible "$package")
	[ -z "$changes" ] || {
		printf 'changes of %s since %s that break programs:\n%s\n' "$package" "$tag" "$changes"
		broken=1
	}
done
next=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' kmod/dkms.conf)
[ -z "$broken" ] || [ "$(series "$next")" != "$(series "${tag#v}")" ] || {
	echo "apidiff: the next release is $next by kmod/dkms.conf, and must not break them:" \
		'keep the old names, or raise the version'
	exit 1
}
