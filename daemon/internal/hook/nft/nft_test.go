// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nft_test

import (
	"embed"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/hook/hooktest"
	"github.com/nsqueue/nsqueue/daemon/internal/hook/nft"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func TestContract(t *testing.T) {
	h, err := nft.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Log(h.Describe())
	hooktest.Run(t, h)
	hooktest.RunSettle(t, h)
}

// references are compiled in, so that the test can run in a guest without files.
//
//go:embed testdata/*.nft
var references embed.FS

// The kernel must hold the same bytecode, chains and sets, whether we or the
// nft command wrote the table.
func TestRulesAreThoseOfNft(t *testing.T) {
	selector := hook.Selector{
		Queue: 80, Bypass: true, Directions: hook.AllDirections, Protocols: []uint8{inspect.ProtoTCP},
	}
	settle, queues := selector, selector
	settle.Settle = hook.Settle{Generation: 5, Timeout: 30 * time.Second, Size: 1000}
	queues.Queues = 3
	for name, s := range map[string]hook.Selector{
		"reference": selector, "settle": settle, "queues": queues,
	} {
		reference, err := references.ReadFile("testdata/" + name + ".nft")
		nstest.Must(t, err)
		t.Run(name, func(t *testing.T) { compare(t, s, string(reference)) })
	}
}

func compare(t *testing.T, s hook.Selector, reference string) {
	t.Helper()
	ours, theirs := nstest.New(t), nstest.New(t)
	arm(t, ours, s)
	theirs.Run(t, "nft", reference)
	got, queueing := bytecode(t, ours)
	want, _ := bytecode(t, theirs)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(queueing) != 3 {
		t.Errorf("statements that queue: %q, want three", queueing)
	}
	for i, q := range queueing {
		native := fmt.Sprintf("[ queue num %d bypass ]", 80+i%s.Count())
		if q != native && q != "[ target name NFQUEUE rev 3 ]" {
			t.Errorf("%s queues otherwise than asked", q)
		}
	}
	chains := func(n *nstest.NetNS) []string {
		return regexp.MustCompile(`type filter hook .*`).FindAllString(n.Run(t, "nft", "list", "ruleset"), -1)
	}
	if diff := cmp.Diff(chains(theirs), chains(ours)); diff != "" {
		t.Error(diff)
	}
	sets := func(n *nstest.NetNS) string { return n.Run(t, "nft", "list", "sets") }
	if diff := cmp.Diff(sets(theirs), sets(ours)); diff != "" {
		t.Error(diff)
	}
}

func arm(t *testing.T, n *nstest.NetNS, s hook.Selector) {
	t.Helper()
	h, err := nft.New()
	nstest.Must(t, err)
	ns, err := netns.Open(n.Path())
	nstest.Must(t, err)
	t.Cleanup(func() { nstest.Must(t, ns.Close()) })
	table, err := h.Open(ns, nil)
	nstest.Must(t, err)
	t.Cleanup(func() { closeHook(t, table) })
	mustArm(t, table, s)
}

// bytecode returns the expressions of all rules in the netns by chain, under
// "" the elements of anonymous sets, and apart from them what queues.
func bytecode(t *testing.T, n *nstest.NetNS) (rules map[string][]string, queueing []string) {
	t.Helper()
	header := regexp.MustCompile(`^inet nsqueue (\w+) [\d ]+$`)
	rules = make(map[string][]string)
	chain := ""
	// Without standard error: nft's warnings come in the middle of a line.
	out, err := n.Command("nft", "--debug=netlink", "list", "ruleset").Output()
	nstest.Must(t, err)
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		switch m := header.FindStringSubmatch(line); {
		case m != nil:
			chain = m[1]
			rules[chain] = append(rules[chain], "rule:")
		case strings.HasPrefix(line, "[ queue "), strings.HasPrefix(line, "[ target "):
			queueing = append(queueing, line)
		case strings.HasPrefix(line, "[ "):
			rules[chain] = append(rules[chain], line)
		case strings.HasPrefix(line, "element "):
			rules[""] = append(rules[""], line)
		}
	}
	slices.Sort(rules[""])
	// The chains of several queues have nothing but what queues.
	maps.DeleteFunc(rules, func(_ string, lines []string) bool {
		return slices.Equal(lines, []string{"rule:"})
	})
	return rules, queueing
}

// A table that an earlier daemon left armed is taken over without a moment in
// which packets pass, and no other program may take it away.
func TestTakeOver(t *testing.T) {
	h, err := nft.New()
	nstest.Must(t, err)
	pod, peer := nstest.Pair(t)
	ns, err := netns.Open(pod.Path())
	nstest.Must(t, err)
	defer ns.Close()
	selector := hook.Selector{Queue: 80, Directions: hook.AllDirections}
	first, err := h.Open(ns, nil)
	nstest.Must(t, err)
	mustArm(t, first, selector)

	second, err := h.Open(ns, nil)
	nstest.Must(t, err)
	defer func() { closeHook(t, second) }()
	if warning := warned(t, second, selector); !errors.Is(warning, hook.ErrForeign) {
		t.Errorf("armed beside a table that has an owner: %v, want %v", warning, hook.ErrForeign)
	}
	closeHook(t, second)
	second, err = h.Open(ns, nil)
	nstest.Must(t, err)
	nstest.Must(t, first.Close())
	if got := peer.Ping(t, pod.IPv4(), 1, silence) == 0; got != h.Persistent() {
		t.Errorf("still armed after its owner went: %t, want %t", got, h.Persistent())
	}
	mustArm(t, second, selector)
	nstest.Must(t, second.Verify(ns, selector))
}

const silence = 200 * time.Millisecond

// warned arms and returns the warning.
func warned(t testing.TB, handle hook.Handle, s hook.Selector) (warning error) {
	t.Helper()
	warning, err := handle.Arm(s)
	nstest.Must(t, err)
	return warning
}

// closeHook removes the hook and closes its handle.
func closeHook(t testing.TB, handle hook.Handle) {
	t.Helper()
	nstest.Must(t, handle.Remove())
	nstest.Must(t, handle.Close())
}

func mustArm(t testing.TB, handle hook.Handle, s hook.Selector) {
	t.Helper()
	_, err := handle.Arm(s)
	nstest.Must(t, err)
}

// While a table has no owner, the pod may put into it what it likes. The next
// owner starts without it, and without settled flows.
func TestTakeOverTamperedTable(t *testing.T) {
	h, err := nft.New()
	nstest.Must(t, err)
	pod := nstest.New(t)
	ns, err := netns.Open(pod.Path())
	nstest.Must(t, err)
	defer ns.Close()
	selector := hook.Selector{
		Directions: hook.AllDirections,
		Settle:     hook.Settle{Generation: 1, Timeout: time.Minute, Size: 10},
	}
	const flow = "add element inet nsqueue accept4_g1_t60000_s10 { 1.1.1.1 . 1.1.1.2 . tcp . 1 . 2 }"
	for _, tampered := range []string{flow, flow + `
		add chain inet nsqueue mine { type filter hook input priority -199; }
		add rule inet nsqueue mine ip saddr . ip daddr . meta l4proto . th sport . th dport \
			@accept4_g1_t60000_s10 accept`} {
		first, err := h.Open(ns, nil)
		nstest.Must(t, err)
		mustArm(t, first, selector)
		nstest.Must(t, first.Close())
		if !h.Persistent() {
			return // there is no table
		}
		pod.Run(t, "nft", tampered)
		second, err := h.Open(ns, nil)
		nstest.Must(t, err)
		mustArm(t, second, selector)
		nstest.Must(t, second.Verify(ns, selector))
		list := pod.Run(t, "nft", "list", "ruleset")
		if strings.Contains(list, "1.1.1.1") || strings.Contains(list, "mine") {
			t.Errorf("left after %q:\n%s", tampered, list)
		}
		closeHook(t, second)
	}
}
