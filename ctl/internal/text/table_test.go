// SPDX-License-Identifier: Apache-2.0

package text

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestTable(t *testing.T) {
	table := Table{
		Head: []string{"ID", "POD", "HOOK", "PACKETS"}, Elastic: "POD", Spare: []string{"HOOK"},
	}
	table.Add("0fd3", "default/web-with-a-long-name-7d4b9c6f8-x2x4z", "nft", "1234567")
	table.Add("0fd4", "-", "kmod", "0")
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
		got := write(t, &table, width)
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

// The extra columns are in the wide form only, and prose goes on below itself.
func TestTableNarrow(t *testing.T) {
	table := Table{
		Head: []string{"POD", "NETNS", "MESSAGE"}, Elastic: "POD", Extra: []string{"NETNS"},
		Prose: true,
	}
	table.Add("default/web", "/run/netns/a", "the queue\nis full, and 24 packets\x1bwere dropped")
	for got, want := range map[string]string{
		write(t, table.Narrow(), 40): `
POD          MESSAGE
default/web  the queue is full, and 24
             packets\x1bwere dropped
`,
		write(t, &table, 0): `
POD          NETNS         MESSAGE
default/web  /run/netns/a  the queue is full, and 24 packets\x1bwere dropped
`,
	} {
		if diff := cmp.Diff(want[1:], got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func write(t *testing.T, table *Table, width int) string {
	t.Helper()
	var b strings.Builder
	if err := table.Write(&b, width); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTableOfTables(t *testing.T) {
	var tables []*Table
	for _, node := range []string{"n1", "n\x1b2"} {
		one := Table{Head: []string{"POD"}}
		one.Add("a")
		one.Add("b")
		one.Lead("NODE", node)
		tables = append(tables, &one)
	}
	all := Join(tables...)
	if all.Rows() != 4 {
		t.Errorf("%d rows", all.Rows())
	}
	var b strings.Builder
	if err := all.Write(&b, 0); err != nil {
		t.Fatal(err)
	}
	const want = "NODE    POD\nn1      a\nn1      b\nn\\x1b2  a\nn\\x1b2  b\n"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

// A screen ends with what does not fit, so that the heading stays on it.
func TestTop(t *testing.T) {
	const text = "a\nb\nc\nd\n"
	for height, want := range map[int]string{
		0: text, 3: text, 5: text, 6: text,
		4: "a\nb\n... and 2 more lines\n",
	} {
		if got := Top(text, height); got != want {
			t.Errorf("%d lines: %q, want %q", height, got, want)
		}
	}
}
