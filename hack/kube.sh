#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# kube.sh: builds Kubernetes, and what a cluster runs beside, from the Go module
# proxy: once per machine and version, into a cache folder that bin/kube points to.
# A program appears there when it is whole, so an interrupted build goes on where
# it was.
#
#   kube.sh            builds what is missing
#   kube.sh --cached   exits with 1 where something is missing, and builds nothing
set -eu -o pipefail
cd "$(dirname "$0")/.."

module=test/kube/tools
version=$(awk '$1 == "k8s.io/kubernetes" {print $2}' $module/go.mod)
cache=${NSQUEUE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nsqueue}/kube
dir=$cache/$version
# With a checksum of the module's sums: other libraries make other programs.
sum=$(sha256sum $module/go.sum | cut -c 1-12)

# NAME MARK PACKAGE: in the order of how soon a mistake would show.
programs="kubectl $sum k8s.io/kubernetes/cmd/kubectl
kube-apiserver $sum k8s.io/kubernetes/cmd/kube-apiserver
kube-controller-manager $sum k8s.io/kubernetes/cmd/kube-controller-manager
kube-scheduler $sum k8s.io/kubernetes/cmd/kube-scheduler
kube-proxy $sum k8s.io/kubernetes/cmd/kube-proxy
kubelet $sum k8s.io/kubernetes/cmd/kubelet
coredns v1.14.6 github.com/coredns/coredns
helm v3.22.0 helm.sh/helm/v3/cmd/helm"

missing() {
	while read -r name mark package; do
		[ -e "$dir/.$name-$mark" ] || echo "$name $mark $package"
	done <<<"$programs"
}

# build FILE PACKAGE: what the project's own build says of its version.
build() {
	local base=k8s.io/component-base/version
	local flags="-s -w -X $base.gitVersion=$version -X $base.gitMajor=${version:1:1}"
	flags+=" -X $base.gitMinor=$(cut -d. -f2 <<<"$version") -X $base.gitTreeState=clean"
	GOWORK=off go build -C $module -trimpath -p 2 -ldflags "$flags" -o "$1" "$2"
}

# fetch DIR PACKAGE@VERSION: a module that no other one needs here.
fetch() {
	(cd / && GOBIN=$1 go install -trimpath -p 2 -ldflags '-s -w' "$2")
}

# make_one NAME MARK PACKAGE: into a folder of its own first.
make_one() {
	local name=$1 mark=$2 package=$3
	rm -rf "$dir/new"
	mkdir -p "$dir/new"
	case $package in
	k8s.io/*) build "$dir/new/$name" "$package" ;;
	*) fetch "$dir/new" "$package@$mark" ;;
	esac
	mv "$dir/new/$name" "$dir/$name"
	touch "$dir/.$name-$mark"
}

if [ "${1-}" = --cached ]; then
	[ -z "$(missing)" ]
	exit
fi

export CGO_ENABLED=0
mkdir -p "$dir" bin
# Two builds at once would take twice as long, and twice the memory.
exec 9>"$cache/lock"
flock 9
todo=$(missing)
number=0
count=$(grep -c . <<<"$todo" || true)
while read -r name mark package; do
	[ -n "$name" ] || continue
	number=$((number + 1))
	echo "building $name into $dir ($number of $count; all of them take some 20 minutes, once)"
	start=$SECONDS
	make_one "$name" "$mark" "$package" </dev/null
	echo "built $name in $((SECONDS - start)) s"
done <<<"$todo"
rm -rf "$dir/new"
ln -sfn "$dir" bin/kube
