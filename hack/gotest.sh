#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# gotest.sh TAG FLAG... DIR...: runs the tests that have the build tag, a package
# after the other: they share the machine's kernel. All processors compile them
# before. The limit only ends what hangs. Lint has vetted the tests.
set -u

tag=$1
shift
dirs=()
for arg; do
	[[ $arg != ./* ]] || dirs+=("$arg")
done
go list -test -export -tags "$tag" "${dirs[@]}" >/dev/null 2>&1 # go test says what fails
NSQUEUE_BIN=$PWD/bin exec go test -vet=off -timeout 60m -count=1 -p 1 \
	${NSQUEUE_SHORT:+-short} -tags "$tag" "$@"
