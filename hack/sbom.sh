#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# sbom.sh VERSION DIR [PROGRAM...]: prints which modules are in programs of DIR, else in
# nsqueue's three, as one list in CycloneDX's JSON.
set -eu -o pipefail
cd "$(dirname "$0")/.."

version=$1
dir=$2
shift 2
[ $# -gt 0 ] || set -- nsqueue nsqueued nsqueuectl
for program; do
	bin/tools/cyclonedx-gomod bin -json -std -noserial -notimestamp \
		-version "v$version" "$dir/$program"
done | jq --slurp --sort-keys --arg version "$version" '
	[.[].metadata.component] as $programs |
	.[0] + {
		metadata: {
			tools: .[0].metadata.tools,
			component: {
				"bom-ref": "nsqueue", type: "application", name: "nsqueue", version: $version
			}
		},
		components: ($programs + (map(.components[]) | unique_by(."bom-ref"))),
		dependencies: ([{ref: "nsqueue", dependsOn: [$programs[]."bom-ref"]}] +
			(map(.dependencies[]) | unique_by(.ref)))
	}'
