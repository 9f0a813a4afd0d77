// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"maps"
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

// refusedOf returns how often each pod was refused.
func refusedOf(i *Inspector) map[string]uint64 {
	refused := make(map[string]uint64)
	for _, p := range i.PodStats() {
		refused[p.Attachment.PodName] = p.Refused
	}
	return refused
}

// A pod with several interfaces keeps its count while one of them is left.
func TestRefusalsDoNotFall(t *testing.T) {
	i := New(Options{Rules: mustCompile(t, set("s", ports))})
	attach := func(pod, ifname string) *inspect.Attachment {
		a := &inspect.Attachment{PodNamespace: "agents", PodName: pod, Ifname: ifname}
		i.Attached(a)
		i.Inspect(datagram(a, 1, 22))
		return a
	}
	first, second, other := attach("a", "eth0"), attach("a", "net1"), attach("b", "eth0")
	for _, step := range []struct {
		detached *inspect.Attachment
		want     map[string]uint64
	}{
		{nil, map[string]uint64{"a": 2, "b": 1}},
		{first, map[string]uint64{"a": 2, "b": 1}},
		{other, map[string]uint64{"a": 2}},
		{second, map[string]uint64{}},
	} {
		if step.detached != nil {
			i.Detached(step.detached)
		}
		if got := refusedOf(i); !maps.Equal(got, step.want) {
			t.Errorf("%v, want %v", got, step.want)
		}
	}
	attach("a", "eth0")
	if got := refusedOf(i)["a"]; got != 1 {
		t.Errorf("the next pod of that name has %d refused, want 1", got)
	}
}
