#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# timed.sh TARGET COMMAND...: says what the target is for, runs the command, and
# prints how long it took, whether it worked or not.
set -u

target=$1
shift
echo "==> $target: $(sed -n "s/^$target:.*## //p" Makefile)"
start=$SECONDS
rc=0
"$@" || rc=$?
echo "==> $target: $((SECONDS - start)) s$([ $rc = 0 ] || echo ', FAILED')"
exit $rc
