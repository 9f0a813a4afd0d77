#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# bench-rivals.sh FLAGS: runs the benchmark of the rule engine alone beside Suricata. What
# it builds goes to bin/test/, and Suricata to bin/rivals/.
set -eu
cd "$(dirname "$0")/.."

test/bench/rivals/fetch.sh bin/rivals/suricata
go build -o bin/test/bench-rivals \
	-ldflags "-X github.com/nsqueue/nsqueue/daemon/api.version=$(hack/version.sh)" \
	./test/bench/rivals
exec bin/test/bench-rivals "$@"
