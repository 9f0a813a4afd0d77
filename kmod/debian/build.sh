#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# build.sh VERSION OUT FILE...: puts the sources into a package that DKMS
# builds on each node, OUT/nsqueue-dkms_VERSION_all.deb.
set -eu

version=$1
out=$2
shift 2
package=$out/nsqueue-dkms_${version}_all.deb
here=$(dirname "$0")
root=$(mktemp -d "${TMPDIR:-/tmp}/nsqueue-dkms.XXXXXX")
trap 'rm -rf "$root"' EXIT
chmod 0755 "$root"

for file in "$@"; do
	mode=0644
	[ ! -x "$file" ] || mode=0755
	install -D -m "$mode" "$file" "$root/usr/src/nsqueue-$version/$file"
done
install -d "$root/usr/share/doc/nsqueue-dkms" "$root/DEBIAN"
cat >"$root/usr/share/doc/nsqueue-dkms/copyright" <<'END'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: The nsqueue authors
License: GPL-2
 The text of the licence is in /usr/share/common-licenses/GPL-2.
END
doc=$root/usr/share/doc/nsqueue-dkms
date=$(LC_ALL=C date -u -R -d "@${SOURCE_DATE_EPOCH:-$(stat -c %Y dkms.conf)}")
sed -e "s/@VERSION@/$version/" -e "s/@DATE@/$date/" "$here/changelog.in" |
	gzip -9n >"$doc/changelog.gz"
# To load the module at every start: cp that to /etc/modules-load.d.
install -d "$doc/examples"
echo nsqueue >"$doc/examples/modules-load.conf"
chmod 0644 "$doc/changelog.gz" "$doc/copyright" "$doc/examples/modules-load.conf"
for script in postinst prerm; do
	sed "s/@VERSION@/$version/" "$here/$script.in" >"$root/DEBIAN/$script"
	chmod 0755 "$root/DEBIAN/$script"
done
# Not what du says: that depends on the file system.
size=$(($(find "$root/usr" -type f -exec cat {} + | wc -c) / 1024 + 1))
sed -e "s/@VERSION@/$version/" -e "s/@SIZE@/$size/" "$here/control.in" >"$root/DEBIAN/control"
(cd "$root" && find usr -type f | LC_ALL=C sort | xargs md5sum) >"$root/DEBIAN/md5sums"
mkdir -p "$out"
dpkg-deb --root-owner-group --build "$root" "$package" >/dev/null
echo "$package"
