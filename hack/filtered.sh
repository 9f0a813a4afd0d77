#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# filtered.sh NAME PATTERN COMMAND...: the command's lines go to
# bin/test/NAME.log; the terminal gets those that show the progress, and where
# the command fails what failed tests have said. The last of that is in
# bin/test/NAME.failed, too, for a summary.
set -u -o pipefail

log=$PWD/bin/test/$1.log
pattern=$2
shift 2
failed=${log%.log}.failed
mkdir -p bin/test
"$@" 2>&1 | tee "$log" | grep --line-buffered -aE "$pattern" && exit
grep -avE '^(\[[^]]+\] |=== | *--- PASS)' "$log" | tail -n 200
grep -aE '^ +[a-z_]+_test\.go:[0-9]+: ' "$log" | grep -avF '@@' | cut -c 1-400 |
	tail -n 15 >"$failed"
echo "all of it: $log"
exit 1
