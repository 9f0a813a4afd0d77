#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# coccicheck.sh: runs the semantic checks of Debian's newest source with long support.
set -eu -o pipefail
cd "$(dirname "$0")/.."

series=6.12
scripts=$(test/vm/fetched.sh "scripts-$series" --scripts "$series")
make -s -C kmod coccicheck KSCRIPTS="$scripts"
