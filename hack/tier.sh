#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# tier.sh TIER: gets what the tests of the tier need, and runs them. With NSQUEUE_SHORT
# it is a short run, for which little is fetched: without the race detector, with a few
# of tests that are alike, and with those of damage beside those of e2e.
set -eu
cd "$(dirname "$0")/.."

tier=$1
timed() { hack/timed.sh "test-$tier" "$@"; }

case $tier in
unit)
	hack/need.sh unit
	if [ -n "${NSQUEUE_SHORT-}" ]; then
		timed go test -vet=off -timeout 60m -short -p 2 ./...
		exit
	fi
	hack/fetch.sh promtool
	timed go test -vet=off -timeout 60m -race -p 2 -tags promtool ./...
	timed go -C ctl/kubectl test -timeout 60m -race -p 2 ./...
	;;
chart)
	timed go -C test/chart test -timeout 60m ./...
	;;
netns)
	hack/need.sh netns
	mapfile -t dirs < <(hack/tagged.sh netns)
	timed hack/gotest.sh netns "${dirs[@]}"
	;;
e2e)
	hack/need.sh e2e
	mapfile -t dirs < <(hack/tagged.sh e2e | grep -v damage)
	[ -z "${NSQUEUE_SHORT-}" ] || dirs+=(./test/damage)
	timed hack/gotest.sh e2e "${dirs[@]}"
	;;
damage)
	hack/need.sh e2e
	# Where it cannot be had, a test is left out, and says why.
	missing=bin/rivals/suricata.missing
	mkdir -p bin/rivals
	if timeout 5m test/bench/rivals/fetch.sh bin/rivals/suricata 2>"$missing"; then
		rm "$missing"
	else
		cat "$missing" >&2
	fi
	timed hack/gotest.sh e2e ./test/damage
	;;
handover)
	hack/need.sh e2e
	export NSQUEUE_HANDOVERS=10
	timed hack/filtered.sh handover '^ *--- | sent, |TCP|FAIL|^(ok|panic)' \
		hack/gotest.sh e2e -v -run 'TestHandOver|TestReplacedInOrder|TestFrozenTaker' ./test/damage
	;;
ui)
	hack/need.sh e2e
	hack/need.sh ui
	[ test/ui/node_modules -nt test/ui/package-lock.json ] ||
		{ npm --prefix test/ui ci --silent --no-audit --no-fund && touch test/ui/node_modules; }
	timed hack/gotest.sh 'e2e browser' -run 'TestPage|TestCrowd' ./test/e2e ./ctl/internal/ui
	;;
release)
	hack/need.sh release
	hack/need.sh image-readers
	hack/fetch.sh cyclonedx-gomod
	timed hack/gotest.sh release ./test/release
	;;
runtimes)
	hack/need.sh runtimes
	hack/fetch.sh runtimes
	timed hack/filtered.sh runtimes '^ *--- |@@ |FAIL|^(ok|panic)' \
		hack/gotest.sh runtimes -v ./test/runtimes
	;;
kube | kube-short | kube-long)
	hack/need.sh kube
	hack/fetch.sh runtimes
	export NSQUEUE_KUBE=${tier#kube-}
	timed hack/filtered.sh "$tier" '^ *--- |@@ |FAIL|^(ok|panic)' \
		hack/gotest.sh kube -v ./test/kube
	;;
vm)
	hack/need.sh vm
	timed hack/filtered.sh vm '^\[[^]]+\] (--- |@@ run|image|guest)|FAIL|^(ok|panic)' \
		hack/gotest.sh vm -v -parallel 3 -run 'TestKernel$' ./test/vm
	;;
kernels | arm64)
	hack/need.sh vm
	hack/need.sh arm64
	hack/build-guest.sh arm64
	run='TestSupported|TestARM64'
	[ "$tier" = kernels ] || run=TestARM64
	timed hack/filtered.sh "$tier" '^\[[^]]+\] (--- |@@ run|image|guest)|FAIL|^(ok|panic)' \
		hack/gotest.sh vm -v -timeout 4h -parallel 2 -run "$run" ./test/vm
	;;
vm-debug)
	hack/need.sh vm
	hack/need.sh debug-kernel
	timed test/vm/debug.sh
	;;
dkms)
	hack/need.sh dkms
	timed kmod/debian/test.sh
	;;
*)
	echo "tier.sh: no tier $tier" >&2
	exit 1
	;;
esac
