#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# bench-build.sh: builds the benchmark and the readers that nsqueued is measured
# beside into bin/test/.
set -eu
cd "$(dirname "$0")/.."

out=bin/test
mkdir -p $out
go build -o $out/bench ./test/bench
CGO_ENABLED=0 go build -o $out/bench-gonfqueue ./test/bench/gonfqueue
go build -o $out/bench-plot ./test/bench/plot
go build -o $out/bench-load ./test/bench/load
for program in classic inspector mmsg traffic; do
	libs=()
	[ $program != classic ] || libs=(-lnetfilter_queue)
	gcc -O2 -Wall -Wextra -Werror -o $out/bench-$program test/bench/c/$program.c "${libs[@]}"
done
