#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# docs.sh: writes the pages and the picture that are made of the code and of
# docs/*.dot, and the files that are made of the chart. The picture names its source, so
# that a test finds one that is older.
set -eu -o pipefail
cd "$(dirname "$0")/../docs"

(cd gen && go generate)
sum=$(sha256sum architecture.dot | cut -d ' ' -f 1)
dot -Tsvg architecture.dot |
	sed "s,^<svg ,<!-- architecture.dot has the SHA-256 $sum -->\n&," >architecture.svg.new
mv architecture.svg.new architecture.svg
go -C ../test/chart run ./gen
