#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# filtered.sh NAME PATTERN COMMAND...: the command's lines go to
# bin/test/NAME.log; the terminal gets those that show the progress, and where
# the command fails what failed tests have said.
set -u -o pipefail

log=$PWD/bin/test/$1.log
pattern=$2
shift 2
mkdir -p bin/test
"$@" 2>&1 | tee "$log" | grep --line-buffered -aE "$pattern" && exit
grep -avE '^(\[[^]]+\] |=== | *--- PASS)' "$log" | tail -n 200
echo "all of it: $log"
exit 1
