#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# tiers.sh TARGET...: makes each target, whether the one before failed or not.
# The last lines name each with its time and result, and what failed tests said
# last; the exit code is 1 where one failed. `test` and `test-all` stand for the
# tiers that they consist of; `test` alone takes a short run of each, in which that
# of e2e has the tests of damage, too.
set -u
cd "$(dirname "$0")/.." || exit

common=(test-unit test-chart test-netns test-e2e)
[ "$*" != test ] || export NSQUEUE_SHORT=yes
targets=()
for target in "$@"; do
	case $target in
	test) targets+=("${common[@]}") ;;
	test-all) targets+=("${common[@]}" test-damage test-ui test-release test-runtimes test-vm) ;;
	*) targets+=("$target") ;;
	esac
done

stopped=
trap 'stopped=yes' INT TERM

begun=$SECONDS
failed=0
summary=()
for target in "${targets[@]}"; do
	start=$SECONDS
	said=bin/test/${target#test-}.failed
	rm -f "$said"
	result='not run'
	if [ -z "$stopped" ]; then
		result=ok
		"${MAKE:-make}" --no-print-directory "$target" || result=FAILED
	fi
	[ "$result" = ok ] || failed=1
	summary+=("$(printf '    %-14s %-8s %5d s' "$target" "$result" $((SECONDS - start)))")
	[ "$result" != FAILED ] || [ ! -s "$said" ] || summary+=("$(<"$said")")
done

printf '==> summary\n'
printf '%s\n' "${summary[@]}"
printf '    %-14s %-8s %5d s\n' together "$([ $failed = 0 ] && echo ok || echo FAILED)" \
	$((SECONDS - begun))
[ -z "${NSQUEUE_SHORT-}" ] || echo '    this was a short run: make test-all makes all tiers, in full'
exit $failed
