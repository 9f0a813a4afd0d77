#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# sbom.sh VERSION DIR: prints which modules are in the three programs of DIR, as
# one list in CycloneDX's JSON.
set -eu -o pipefail
cd "$(dirname "$0")/.."

version=$1
dir=$2
for program in nsqueue nsqueued nsqueuectl; do
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
