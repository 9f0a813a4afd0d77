// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
)

func packet(direction, from, to string) *api.PacketEvent {
	a, b := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	return &api.PacketEvent{
		Key: key(), Pod: api.Pod{Namespace: "agents", Name: "a1"}, Direction: direction,
		Protocol: "tcp", Length: 100, Verdict: "accept",
		Source: a.Addr(), SourcePort: a.Port(), Destination: b.Addr(), DestinationPort: b.Port(),
	}
}

// Packets of both directions are one flow, and the end with a client's port has opened it.
func TestFlows(t *testing.T) {
	table := newFlowTable()
	table.add(packet("in", "203.0.113.7:443", "10.0.0.2:40000"))
	table.add(packet("out", "10.0.0.2:40000", "203.0.113.7:443"))
	table.add(packet("out", "10.0.0.2:8080", "10.0.0.9:50000"))
	table.add(packet("in", "10.0.0.9:99", "10.0.0.2:98"))
	var got []string
	for _, f := range table.take() {
		got = append(got, fmt.Sprint(f.Pod, " ", f.Direction, " ", f.Protocol, " ", f.Pods, " ", f.Other,
			" ", f.Packets))
	}
	want := []string{
		"agents/a1 out tcp 10.0.0.2:40000 203.0.113.7:443 2",
		"agents/a1 in tcp 10.0.0.2:8080 10.0.0.9:50000 1",
		"agents/a1 in tcp 10.0.0.2:98 10.0.0.9:99 1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("flows %q, want %q", got, want)
	}
	if again := table.take(); len(again) != 0 {
		t.Errorf("told twice: %v", again)
	}
	refused := packet("out", "10.0.0.2:40000", "203.0.113.7:443")
	refused.Verdict, refused.Rule = "reject", "web/default"
	table.add(refused)
	if f := table.take(); len(f) != 1 || f[0].Verdict != "reject" || f[0].Rule != "web/default" ||
		f[0].Bytes != 300 {
		t.Errorf("flow %+v", f)
	}
}

// A name that comes to be known is told of flows that were there before.
func TestFlowNames(t *testing.T) {
	table := newFlowTable()
	table.add(packet("out", "10.0.0.2:40000", "203.0.113.7:443"))
	table.take()
	names := []api.ObservedName{
		{
			Namespace: "agents", Pod: "a1", App: "tls", Name: "good.example", Port: 443, Verdict: "accept",
			Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.7")},
		},
		{
			Namespace: "agents", Pod: "a2", App: "tls", Name: "other.example", Port: 443,
			Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.7")},
		},
	}
	table.learn(names)
	if f := table.take(); len(f) != 1 || !slices.Equal(f[0].Names, []string{"good.example"}) {
		t.Errorf("flows %+v", f)
	}
	table.learn(names)
	if f := table.take(); len(f) != 0 {
		t.Errorf("told of the same names: %+v", f)
	}
	refused := packet("out", "10.0.0.2:40001", "203.0.113.7:443")
	refused.Verdict = "reject"
	table.add(refused)
	if f := table.take(); len(f) != 1 || len(f[0].Names) > 0 {
		t.Errorf("refused, with the name of what was accepted: %+v", f)
	}
}

// The flow with the oldest last packet gives way.
func TestFlowsAreBounded(t *testing.T) {
	table := newFlowTable()
	first := packet("out", "10.0.0.2:40000", "203.0.113.7:443")
	table.add(first)
	for port := range uint16(mostFlows) {
		p := packet("out", "10.0.0.3:40000", "203.0.113.7:1")
		p.DestinationPort = port + 1
		table.add(p)
		table.add(first)
	}
	if len(table.flows) != mostFlows || table.order.Len() != mostFlows {
		t.Errorf("%d flows, %d in order", len(table.flows), table.order.Len())
	}
	f := table.take()
	if last := f[len(f)-1]; last.Packets != mostFlows+1 {
		t.Errorf("the flow in use was forgotten: %+v", last)
	}
}
