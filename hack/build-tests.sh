#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# build-tests.sh: builds what the tests run into bin/test/.
set -eu
cd "$(dirname "$0")/.."

echo 'building what the tests run into bin/test/'
export CGO_ENABLED=0
go build -tags faultpoints -o bin/test/nsqueued-faults ./daemon
go build -tags faultpoints -o bin/test/stamper-faults ./test/damage/stamper
go build -trimpath -ldflags '-s -w' -o bin/test/ \
	./test/damage/stamper ./test/damage/marker ./test/damage/holder \
	./test/runtimes/recorder ./test/runtimes/podtool ./test/kube/stuck
