#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# gotest.sh TAG FLAG... DIR...: runs the tests that have the build tag, a package
# after the other: they share the machine's kernel. In a short run, two packages run
# side by side: they wait for packets more than they work. All processors compile the
# tests before. The limit only ends what hangs. Lint has vetted the tests.
set -u

tag=$1
shift
dirs=()
for arg; do
	[[ $arg != ./* ]] || dirs+=("$arg")
done
go list -test -export -tags "$tag" "${dirs[@]}" >/dev/null 2>&1 # go test says what fails
short=()
[ -z "${NSQUEUE_SHORT-}" ] || short=(-short -p 2)
NSQUEUE_BIN=$PWD/bin exec go test -vet=off -timeout 60m -count=1 -p 1 "${short[@]}" \
	-tags "$tag" "$@"
