#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# debug.sh: builds the kernel of debug.config, once for each configuration (some 22 minutes
# on two idle processors), and boots it with all programs.
set -eu -o pipefail
cd "$(dirname "$0")"

series=6.12
archive=$(./fetched.sh "source-$series" --source "$series")
cache=${NSQUEUE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nsqueue}/vm
tree=$cache/debug-$series
sum=$(cat "$archive" debug.config | sha256sum | cut -d ' ' -f 1)

prepare() {
	rm -rf "$tree"
	mkdir -p "$tree"
	tar -xJf "$archive" -C "$tree" --strip-components 1
	make -s -C "$tree" tinyconfig
	(cd "$tree" && scripts/kconfig/merge_config.sh -m .config "$OLDPWD/debug.config")
	make -s -C "$tree" olddefconfig
	echo "$sum" >"$tree/.nsqueue.begun"
}

# build goes on with a build that was interrupted.
build() {
	echo "debug.sh: building Linux $series with debug.config in $tree"
	[ "$(cat "$tree/.nsqueue.begun" 2>/dev/null)" = "$sum" ] || prepare
	make -s -C "$tree" "-j$(nproc)" bzImage modules
	echo "$sum" >"$tree/.nsqueue"
}

exec 9>"$cache/debug.lock"
flock 9
[ "$(cat "$tree/.nsqueue" 2>/dev/null)" = "$sum" ] || build >&2
cd ../..
NSQUEUE_VM_TREE=$tree exec hack/filtered.sh vm-debug \
	'^\[[^]]+\] (--- |@@ run|image|guest)|FAIL|^(ok|panic)' \
	hack/gotest.sh vm -v -timeout 12h -run TestTree ./test/vm
