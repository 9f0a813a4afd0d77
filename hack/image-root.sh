#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# image-root.sh DIR VERSION: makes what is in the container image for GOARCH in DIR,
# as a tree of files. deploy/image/Dockerfile copies it into an image, and
# hack/image.sh packs it.
set -eu -o pipefail
cd "$(dirname "$0")/.."
. hack/reproducible.sh

root=$1
version=$2
doc=$root/usr/share/doc/nsqueue

# Runtimes pass a netns as /var/run/netns/…: that is found in what is mounted at
# /run/netns.
mkdir -p "$root/run" "$root/var" "$root/etc" "$doc"
ln -s /run "$root/var/run"
mkdir -m 1777 "$root/tmp"
printf '%s\n' 'root:x:0:0:root:/:/sbin/nologin' \
	'nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin' >"$root/etc/passwd"
printf '%s\n' 'root:x:0:' 'nogroup:x:65534:' >"$root/etc/group"

hack/build.sh "$root/usr/local/bin" "$version"
install -m 644 LICENSE "$doc/LICENSE"
hack/notices.sh >"$doc/THIRD-PARTY-NOTICES"
GOARCH=$(go env GOHOSTARCH) go run ./hack/image sbom --version "$version" \
	--epoch "$SOURCE_DATE_EPOCH" "$root/usr/local/bin" >"$doc/nsqueue.spdx.json"
