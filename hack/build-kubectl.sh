#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# build-kubectl.sh DIR VERSION: builds kubectl-nsqueue, the plugin of kubectl, into DIR.
# GOOS and GOARCH say for which system.
set -eu
cd "$(dirname "$0")/.."

mkdir -p "$1"
dir=$(cd "$1" && pwd)
flags="-s -w -X github.com/nsqueue/nsqueue/daemon/api.version=$2"
CGO_ENABLED=0 go -C ctl/kubectl build -trimpath -ldflags "$flags" -o "$dir/kubectl-nsqueue" .
