// SPDX-License-Identifier: Apache-2.0

//go:build netns

package marks_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/internal/marks"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

const mask = 0xff000000

// find makes a netns with a command line after the other, and looks there.
func find(t *testing.T, lines ...string) []marks.Use {
	t.Helper()
	made := nstest.New(t)
	for _, line := range lines {
		f := strings.Fields(line)
		if f[0] == "nft" {
			made.Run(t, "nft", strings.TrimPrefix(line, "nft "))
			continue
		}
		made.Run(t, f[0], f[1:]...)
	}
	ns, err := netns.Open(made.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	uses, err := marks.Find(ns, mask)
	if err != nil {
		t.Fatal(err)
	}
	return uses
}

func TestNothing(t *testing.T) {
	if uses := find(t); uses != nil {
		t.Errorf("%+v in an empty netns", uses)
	}
}

func TestRoutingRules(t *testing.T) {
	got := find(t,
		"ip rule add fwmark 1337 lookup 133 pref 100", // as a mesh does: all bits
		"ip rule add fwmark 0x539/0xfff lookup 133 pref 101",
		"ip -6 rule add fwmark 0x1000000/0x3000000 lookup 133 pref 102",
		"ip rule add from 10.0.0.1 lookup 133 pref 103")
	want := []marks.Use{
		{Where: "ip -4 rule 100", Mask: 0xffffffff},
		{Where: "ip -6 rule 102", Mask: 0x03000000},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNFTables(t *testing.T) {
	const add = "nft add rule inet m c "
	for rule, want := range map[string][]marks.Use{
		"meta mark 0x539 accept":                                {{Mask: 0xffffffff}},
		"meta mark & 0xfff == 0x539 accept":                     nil,
		"meta mark & 0x01000fff == 0x539 accept":                {{Mask: 0x01000fff}},
		"meta mark { 1, 2 } accept":                             {{Mask: 0xffffffff}},
		"meta mark set 7":                                       {{Sets: true, Mask: 0xffffffff}},
		"meta mark set meta mark | 0x4000":                      nil,
		"meta mark set meta mark & 0xff00ffff | 0x1":            nil,
		"meta mark set meta mark & 0x00ffffff":                  {{Sets: true, Mask: 0xff000000}},
		"ct mark set meta mark":                                 {{Mask: 0xffffffff}},
		"meta mark set ct mark":                                 {{Sets: true, Mask: 0xffffffff}},
		"meta l4proto tcp ip daddr 10.0.0.1 tcp dport 1 accept": nil,
		"meta mark & 0xfff == 0x1 meta mark set 0x2":            {{Sets: true, Mask: 0xffffffff}},
	} {
		t.Run(rule, func(t *testing.T) {
			for i := range want {
				want[i].Where = "nft inet m c"
			}
			got := find(t, "nft add table inet m",
				"nft add chain inet m c { type filter hook output priority 0 ; }", add+rule)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Both kinds of iptables are asked, in their own ways.
func TestIPTables(t *testing.T) {
	for _, program := range []string{"iptables-nft", "iptables-legacy", "ip6tables-legacy"} {
		t.Run(program, func(t *testing.T) {
			add := program + " -t mangle -A OUTPUT "
			got := find(t,
				add+"-p tcp -m mark --mark 0x1/0xfff -j MARK --set-xmark 0x4000/0x4000",
				add+"-m mark --mark 0x539 -j RETURN",
				add+"-p tcp -m tcp --dport 80 -m mark --mark 0x1/0x1000000 -j MARK --set-mark 7",
				add+"-j CONNMARK --restore-mark --nfmask 0x3000000 --ctmask 0x3000000",
				add+"-j CONNMARK --save-mark")
			where := program + " -t mangle"
			if program == "iptables-nft" {
				where = "nft ip mangle OUTPUT"
			}
			want := []marks.Use{
				{Where: where, Mask: 0xffffffff},
				{Where: where, Mask: 0x01000000},
				{Where: where, Sets: true, Mask: 0xffffffff},
				{Where: where, Sets: true, Mask: 0x03000000},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// However many there are, the first ones are told.
func TestManyUses(t *testing.T) {
	var lines []string
	for i := range 40 {
		lines = append(lines, "ip rule add fwmark 1 lookup 133 pref "+string(rune('1'+i/10))+string(rune('0'+i%10)))
	}
	if got := find(t, lines...); len(got) != 16 || got[0].Where != "ip -4 rule 10" {
		t.Errorf("%d uses: %+v", len(got), got)
	}
}
