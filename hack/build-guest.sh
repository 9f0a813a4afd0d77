#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# build-guest.sh ARCH: builds what a guest of another architecture runs beside its tests
# into bin/ARCH/.
set -eu
cd "$(dirname "$0")/.."

export GOARCH=$1 CGO_ENABLED=0
echo "building what guests run into bin/$GOARCH/"
hack/fetch.sh cni
hack/build.sh "bin/$GOARCH" "$(hack/version.sh)"
go build -tags faultpoints -o "bin/$GOARCH/test/nsqueued-faults" ./daemon
