#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# version.sh: prints the version of the programs that are built here. A released
# source says it in the file VERSION. A git checkout takes it from the last tag,
# such as v1.2.3. Where there is no tag, and where there is no git, it is the
# module's with "-dev" behind.
set -eu
cd "$(dirname "$0")/.."

[ ! -f VERSION ] || exec cat VERSION
dev=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' kmod/dkms.conf)-dev
# A .git further up is another project's.
if [ -e .git ] && command -v git >/dev/null; then
	if tag=$(git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null); then
		echo "${tag#v}"
		exit
	fi
	if commit=$(git describe --always --exclude '*' --dirty 2>/dev/null); then
		echo "$dev-g$commit"
		exit
	fi
fi
echo "$dev"
