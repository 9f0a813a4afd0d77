#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# terminal-svg.sh <TEXT >PICTURE: draws lines of a terminal as SVG. Lines that begin with "$ "
# are commands.
set -eu

sed 's/[[:space:]]*$//; s/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g' | awk '
	{ lines[NR] = $0; if (length($0) > widest) widest = length($0) }
	END {
		width = int(widest * 7.3 + 32); height = NR * 18 + 24
		printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\">\n", width, height, width
		print "<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#1b1f24\"/>"
		print "<g font-family=\"ui-monospace, Menlo, Consolas, monospace\" font-size=\"12\" fill=\"#d8dee4\">"
		for (i = 1; i <= NR; i++) {
			colour = lines[i] ~ /^\$ / ? " fill=\"#7ee787\"" : ""
			printf "<text x=\"16\" y=\"%d\" xml:space=\"preserve\"%s>%s</text>\n", i * 18 + 8, colour, lines[i]
		}
		print "</g>\n</svg>"
	}'
