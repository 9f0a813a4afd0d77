#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# image.sh VERSION FILE: makes the container image in FILE: one archive for amd64
# and arm64 that is an OCI layout and what `docker load` reads. The environment's
# IMAGE is its name without the tag.
#
# A commit, and the same version of Go, always give the same bytes.
set -eu -o pipefail
cd "$(dirname "$0")/.."
. hack/reproducible.sh

version=$1
file=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

revision=$([ -e .git ] && git rev-parse HEAD 2>/dev/null) || revision=
unset GOARCH
for arch in amd64 arm64; do
	echo "building what is in the image for $arch"
	GOARCH=$arch hack/image-root.sh "$work/$arch" "$version"
done
echo "packing $file"
mkdir -p "$(dirname "$file")"
go run ./hack/image pack --name "${IMAGE:-ghcr.io/nsqueue/nsqueue}" --version "$version" \
	--revision "$revision" --epoch "$SOURCE_DATE_EPOCH" --output "$file" \
	"amd64=$work/amd64" "arm64=$work/arm64"
