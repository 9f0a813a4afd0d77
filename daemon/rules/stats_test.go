// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// total returns the count of a set's rules with an action, -1 where there is none.
func total(i *Inspector, set, action string) int {
	for _, t := range i.Stats().Totals {
		if t.Set == set && t.Action == action && !t.Audit {
			return int(t.Count)
		}
	}
	return -1
}

// A rule that goes takes no count with it: counters that fall would be taken for a restart.
func TestTotalsDoNotFall(t *testing.T) {
	i := New(Options{Rules: mustCompile(t, set("s", ports))})
	agent := &inspect.Attachment{PodNamespace: "agents", PodName: "a"}
	i.Attached(agent)
	i.Inspect(datagram(agent, 1, 22))
	renamed := mustCompile(t, set("s", strings.ReplaceAll(ports, "ssh", "shell")))
	replace(t, i, renamed)
	i.Inspect(datagram(agent, 2, 22))
	if n := total(i, "s", "reject"); n != 2 {
		t.Errorf("%d rejected, want 2", n)
	}
	replace(t, i, mustCompile(t, set("other", ports)))
	if n := total(i, "s", "reject"); n != -1 {
		t.Errorf("a set that is gone has %d rejected", n)
	}
	replace(t, i, renamed)
	if n := total(i, "s", "reject"); n != 0 {
		t.Errorf("a set that is new has %d rejected", n)
	}
}

// Whoever asks for numbers does not wait for a packet that is never through.
func TestStatsOfBusyPod(t *testing.T) {
	i := New(Options{Rules: mustCompile(t, set("s", ports))})
	agent := &inspect.Attachment{PodNamespace: "agents", PodName: "a"}
	i.Attached(agent)
	i.Inspect(datagram(agent, 1, 80))
	p := i.pod(agent)
	p.mu.Lock()
	if s := i.Stats(); s.Pods != 1 || s.Flows != 0 {
		t.Errorf("nobody asked before: %+v", s)
	}
	p.mu.Unlock()
	if s := i.Stats(); s.Flows != 1 {
		t.Errorf("%+v", s)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := i.Stats(); s.Flows != 1 {
		t.Errorf("the last numbers are forgotten: %+v", s)
	}
	if list := i.PodStats(); len(list) != 1 || list[0].Flows != 1 {
		t.Errorf("%+v", list)
	}
}
