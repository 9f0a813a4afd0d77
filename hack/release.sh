#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# release.sh VERSION: makes the files of a release in bin/release/VERSION/:
#
#   nsqueue-VERSION-linux-ARCH.tar.gz   the programs, and what belongs to them
#   nsqueue-VERSION-linux-ARCH.cdx.json the modules in them (CycloneDX)
#   kubectl-nsqueue-VERSION-OS-ARCH.tar.gz and .cdx.json
#                                       the plugin of kubectl, in the same way
#   kubectl-nsqueue-VERSION-krew.yaml   how krew installs it
#   nsqueue-VERSION-image.tar           the container image of both architectures
#   nsqueue-VERSION-source.tar.gz       the commit
#   nsqueue-dkms_VERSION_all.deb        the kernel module's source for DKMS
#   SHA256SUMS
#
# A commit, and the same versions of Go and the tools, always give the same bytes.
set -eu -o pipefail
cd "$(dirname "$0")/.."

die() {
	echo "make release: $*" >&2
	exit 1
}

# check: ends the script unless this commit may be released as VERSION.
check() {
	local number='(0|[1-9][0-9]*)' id='(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)'
	local semantic="^$number\.$number\.$number(-$id(\.$id)*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$"
	[ -n "$version" ] || die 'name the version: make release VERSION=1.2.3'
	[[ $version =~ $semantic ]] || die "VERSION $version is no semantic version," \
		'such as 1.2.3 or 1.2.3-rc.1 (without v)'
	[ -e .git ] || die 'this is no git checkout'
	[ -z "$(git status --porcelain)" ] || die 'git status shows changes:' \
		'commit them, or remove them'
	local module
	module=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' kmod/dkms.conf)
	[ "$module" = "${version%%[-+]*}" ] || die "kmod/dkms.conf has the version $module," \
		"not ${version%%[-+]*}: write it there and commit"
}

# programs ARCH: makes the archive of the programs, and its list of modules.
programs() {
	local name=nsqueue-$version-linux-$1
	export GOARCH=$1
	git archive --prefix="$name/" HEAD LICENSE README.md CHANGELOG.md SECURITY.md deploy \
		'conflist/*.conflist' conflist/README.md 'docs/*.md' 'docs/*.svg' 'docs/*.png' hack/install.sh |
		tar -x -C "$work"
	hack/build.sh "$work/$name/bin" "$version"
	hack/notices.sh >"$work/$name/THIRD-PARTY-NOTICES"
	pack "$work" "$name" >"$out/$name.tar.gz"
	hack/sbom.sh "$version" "$work/$name/bin" >"$out/$name.cdx.json"
}

# plugin OS-ARCH: makes the archive of kubectl-nsqueue, and its list of modules.
plugin() {
	local name=kubectl-nsqueue-$version-$1
	export GOOS=${1%-*} GOARCH=${1#*-}
	hack/build-kubectl.sh "$work/$name" "$version"
	hack/notices.sh ctl/kubectl . >"$work/$name/THIRD-PARTY-NOTICES"
	cp LICENSE "$work/$name"
	pack "$work/$name" LICENSE THIRD-PARTY-NOTICES kubectl-nsqueue >"$out/$name.tar.gz"
	hack/sbom.sh "$version" "$work/$name" kubectl-nsqueue >"$out/$name.cdx.json"
}

# manifest: prints krew's manifest of the plugin, with version and checksums.
manifest() {
	local expressions=(-e "s/@VERSION@/$version/g") platform sum
	for platform in $platforms; do
		sum=$(sha256sum "$out/kubectl-nsqueue-$version-$platform.tar.gz" | cut -c 1-64)
		expressions+=(-e "s/@$platform@/$sum/")
	done
	sed "${expressions[@]}" deploy/krew/nsqueue.yaml
}

# pack DIR FILE...: prints an archive of what is in DIR.
pack() {
	local dir=$1
	shift
	tar -c --sort=name --format=gnu --mtime="@$SOURCE_DATE_EPOCH" --mode=u=rwX,go=rX \
		--owner=0 --group=0 --numeric-owner -C "$dir" "$@" | gzip -n
}

# What the plugin of kubectl is for.
platforms='darwin-amd64 darwin-arm64 linux-amd64 linux-arm64'

version=${1-}
check
hack/need.sh release
hack/fetch.sh cyclonedx-gomod

. hack/reproducible.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
out=$work/out
mkdir "$out"

for arch in amd64 arm64; do
	echo "building for $arch"
	programs $arch
done
plugins=()
for platform in $platforms; do
	echo "building kubectl-nsqueue for $platform"
	plugin "$platform" &
	plugins+=($!)
done
for one in "${plugins[@]}"; do wait "$one"; done
manifest >"$out/kubectl-nsqueue-$version-krew.yaml"
hack/image.sh "$version" "$out/nsqueue-$version-image.tar"
git -c tar.umask=0022 archive --prefix="nsqueue-$version/" \
	--add-virtual-file="nsqueue-$version/VERSION:$version" HEAD |
	gzip -9n >"$out/nsqueue-$version-source.tar.gz"
cp "kmod/$(make -s -C kmod deb-dkms | sed 's,.*/build/,build/,')" "$out"
(cd "$out" && sha256sum -- * >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" .)

dir=bin/release/$version
rm -rf "$dir"
mkdir -p "$dir"
cp "$out"/* "$dir"
echo "made in $dir:"
ls "$dir"
