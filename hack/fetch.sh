#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# fetch.sh THING...: puts what the tests, the demo and a release run, at pinned
# versions, into bin/, or with GOARCH what another architecture runs into bin/GOARCH/. It
# is quiet when it is there.
set -eu
cd "$(dirname "$0")/.."

bin=$PWD/bin${GOARCH:+/$GOARCH}
plugins=github.com/containernetworking/plugins/plugins
plugins_version=v1.9.1
flannel_version=v0.9.1
containerd=github.com/containerd/containerd/v2/cmd
containerd_version=v2.4.2
flanneld_version=v0.26.7
lint_version=v2.15.0
sbom_version=v1.10.0
apidiff_version=v0.0.0-20261113113407-e3970619a1a4

# install DIR NAME VERSION PACKAGE...: by `go install`, once for each version.
install() {
	local dir=$bin/$1 name=$2 version=$3 package
	shift 3
	[ ! -e "$dir/.$name-$version" ] || return 0
	echo "installing $name $version into ${dir#"$PWD/"} (some minutes at most, once)"
	mkdir -p "$dir"
	for package; do
		if [ -z "${GOARCH-}" ]; then
			GOBIN=$dir go install -trimpath "$package@$version"
		else
			cross "$dir" "$package@$version"
		fi
	done
	touch "$dir/.$name-$version"
}

# cross DIR PACKAGE: `go install` puts what is for GOARCH below a GOPATH only.
cross() {
	rm -rf "$1/gopath"
	GOMODCACHE=$(go env GOMODCACHE) GOPATH=$1/gopath go install -trimpath "$2"
	mv "$1/gopath/bin/linux_$GOARCH"/* "$1/"
	rm -r "$1/gopath"
}

# promtool alone: the package that it is in would start a server.
promtool() {
	[ ! -e "$bin/tools/promtool" ] || return 0
	echo 'fetching promtool, of the package prometheus, into bin/tools'
	mkdir -p "$bin/tools"
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' EXIT
	get() { (cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download prometheus >/dev/null); }
	get 2>/dev/null || { apt-get -qq update && get; }
	dpkg-deb --fsys-tarfile "$dir"/prometheus_*.deb |
		tar -xO ./usr/bin/promtool >"$bin/tools/promtool.new"
	chmod 755 "$bin/tools/promtool.new"
	mv "$bin/tools/promtool.new" "$bin/tools/promtool"
}

# What a node of the runtimes' tests runs beside nsqueue: Debian's programs, and
# newer ones. flanneld's udp backend, which nothing here uses, needs a C compiler.
runtimes() {
	install runtimes/bin containerd $containerd_version \
		$containerd/containerd $containerd/containerd-shim-runc-v2 $containerd/ctr
	CGO_ENABLED=1 install runtimes/bin flanneld $flanneld_version github.com/flannel-io/flannel
	install cni runtimes $plugins_version $plugins/meta/{bandwidth,firewall,tuning}
	test/runtimes/fetch.sh "$bin/runtimes/debian"
}

export CGO_ENABLED=0
for thing; do
	case $thing in
	cni)
		install cni plugins $plugins_version \
			$plugins/main/{bridge,loopback} $plugins/ipam/host-local $plugins/meta/portmap
		install cni flannel $flannel_version $plugins/meta/flannel
		;;
	golangci-lint)
		install tools golangci-lint $lint_version \
			github.com/golangci/golangci-lint/v2/cmd/golangci-lint
		;;
	apidiff) install tools apidiff $apidiff_version golang.org/x/exp/cmd/apidiff ;;
	cyclonedx-gomod)
		install tools cyclonedx-gomod $sbom_version \
			github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod
		;;
	promtool | runtimes) "$thing" ;;
	*)
		echo "fetch.sh: nothing named $thing" >&2
		exit 1
		;;
	esac
done
