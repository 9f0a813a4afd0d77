#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# build.sh DIR VERSION: builds nsqueue, nsqueued and nsqueuectl into DIR.
set -eu
cd "$(dirname "$0")/.."

dir=$1
flags="-s -w -X github.com/nsqueue/nsqueue/daemon/api.version=$2"
export CGO_ENABLED=0
go build -trimpath -ldflags "$flags" -o "$dir/nsqueue" ./plugin
go build -trimpath -ldflags "$flags" -o "$dir/nsqueued" ./daemon
go build -trimpath -ldflags "$flags" -o "$dir/nsqueuectl" ./ctl
