// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestTable(t *testing.T) {
	table := table{
		head: []string{"ID", "POD", "HOOK", "PACKETS"}, elastic: "POD", spare: []string{"HOOK"},
	}
	table.add("0fd3", "default/web-with-a-long-name-7d4b9c6f8-x2x4z", "nft", "1234567")
	table.add("0fd4", "-", "kmod", "0")
	for width, want := range map[int]string{
		0: `
ID    POD                                           HOOK  PACKETS
0fd3  default/web-with-a-long-name-7d4b9c6f8-x2x4z  nft   1234567
0fd4  -                                             kmod  0
`,
		44: `
ID    POD                      HOOK  PACKETS
0fd3  default/web…9c6f8-x2x4z  nft   1234567
0fd4  -                        kmod  0
`,
		34: `
ID    POD                  PACKETS
0fd3  default/w…6f8-x2x4z  1234567
0fd4  -                    0
`,
		5: `
ID    POD               PACKETS
0fd3  default…f8-x2x4z  1234567
0fd4  -                 0
`,
	} {
		var b strings.Builder
		if err := table.write(&b, width); err != nil {
			t.Fatal(err)
		}
		got := b.String()
		if diff := cmp.Diff(want[1:], got); diff != "" {
			t.Errorf("%d columns (-want +got):\n%s", width, diff)
		}
		for line := range strings.Lines(got) {
			if n := utf8.RuneCountInString(line) - 1; width > 30 && n > width {
				t.Errorf("%d columns, want at most %d: %s", n, width, line)
			}
		}
	}
}
