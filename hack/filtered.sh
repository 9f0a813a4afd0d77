#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# filtered.sh NAME PATTERN COMMAND...: the command's lines go to
# bin/test/NAME.log; the terminal gets those that show the progress, and the end
# of it all where the command fails.
set -u -o pipefail

log=$PWD/bin/test/$1.log
pattern=$2
shift 2
mkdir -p bin/test
"$@" 2>&1 | tee "$log" | grep --line-buffered -E "$pattern" && exit
tail -n 200 "$log"
echo "all of it: $log"
exit 1
