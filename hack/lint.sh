#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# lint.sh: checks style, dependencies, scripts, the module. All steps run, and
# the last line names those that failed.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit

tags='netns e2e release runtimes kube vm vmguest failslab promtool browser'
# Kernels that the module is built for, and the newest, which needs its own compiler.
kernels='6.1 6.12'
newest=trixie-backports/amd64
# Whose checks of code are used.
scripts=6.12
# Libraries stay synchronous. Programs and tests may start goroutines, and so may
# these packages, which join them; docs/architecture.md says what for.
may_start='^(daemon/(node|api|internal/(calls|datapath|external/server|registry|programs|netns|supervise))/|internal/dirwatch/'
may_start+='|ctl/internal/ui/|ctl/kubectl/internal/(fleet|pods)/|daemon/internal/(evesink|nri|policy)/|daemon/internal/(nfqueue/deferrals|reject/sender)\.go|(.*/)?[a-z]*test/)'
# By a statement, or by a WaitGroup, an errgroup or an AfterFunc.
starts='^[[:space:]]*go [a-zA-Z]+.*\(|\.(Go|TryGo|AfterFunc)\('

files() {
	git ls-files --cached --others --exclude-standard "$@" | while read -r f; do
		[ ! -f "$f" ] || echo "$f"
	done
}

goroutines() {
	files '*.go' | grep -v '_test\.go$' | grep -Ev "$may_start" |
		xargs -r grep -L '^package main$' | xargs -r grep -nE "$starts" || return 0
	echo 'libraries start no goroutine; let the caller do it'
	return 1
}

licences() {
	files '*.go' Makefile '*.sh' .ci/run '*.c' '*.h' |
		xargs -r grep -L 'SPDX-License-Identifier' | sed 's/$/: no SPDX line/' | { ! grep .; }
}

# merged finds what a merge has left for its author.
merged() {
	! git grep -nE '^(<<<<<<<|>>>>>>>) '
}

scripts() {
	files '*.sh' .ci/run | xargs shellcheck
}

# nested DIR: checks a Go module that is not the project's own.
nested() {
	go -C "$1" mod tidy -diff || return
	local packages
	packages=$(go -C "$1" list -tags "$tags" ./...) || return
	[ -n "$packages" ] || return 0 # it names tools alone
	(cd "$1" && "$OLDPWD/bin/tools/golangci-lint" run --build-tags "$tags" ./...)
}

chart() {
	go -C test/chart run ./gen --check
}

module() {
	make -C kmod style CLANG_FORMAT=clang-format-14 || return
	for kernel in $kernels; do
		kdir=$(test/vm/fetched.sh "$kernel" "$kernel") &&
			make -s -C kmod check KDIR="$kdir" || return
	done
	kdir=$(test/vm/fetched.sh "$newest" "$newest") && root=$(test/vm/fetched.sh "$newest.root" "$newest") &&
		test/vm/inroot.sh "$root" "$PWD/kmod:${kdir%/root/*}" \
			make -s -C "$PWD/kmod" check SPARSE=0 KDIR="$kdir"
}

checkpatch() {
	make -s -C kmod checkpatch KSCRIPTS="$(test/vm/fetched.sh "scripts-$scripts" --scripts "$scripts")"
}

failed=()
step() {
	local name=$1
	shift
	echo "lint: $name"
	"$@" || failed+=("$name")
}

step 'go mod tidy' go mod tidy -diff
step 'go vet' go vet ./...
step 'golangci-lint, all tags' bin/tools/golangci-lint run --build-tags "$tags" ./...
step 'golangci-lint fmt' bin/tools/golangci-lint fmt --diff ./...
for dir in $(files '*/go.mod' | xargs -r -n 1 dirname); do
	step "Go module $dir" nested "$dir"
done
step 'what is made of the chart' chart
step apidiff hack/apidiff.sh
step goroutines goroutines
step licences licences
step 'no conflict left' merged
step shellcheck scripts
step kmod module
step checkpatch checkpatch
[ ${#failed[@]} = 0 ] || {
	printf -v list ', %s' "${failed[@]}"
	echo "lint: failed: ${list:2}"
	exit 1
}
