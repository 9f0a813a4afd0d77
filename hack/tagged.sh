#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# tagged.sh TAG: prints the directories of the tests that have this build tag.
set -eu
cd "$(dirname "$0")/.."

grep -rlE --include='*_test.go' "^//go:build $1( |\$)" \
	./ctl ./daemon ./docs ./internal ./plugin ./test |
	xargs -n 1 dirname | sort -u
