// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/eve"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// What is refused is worth an event, what would be, and what a rule is to log.
func TestWorthAnEvent(t *testing.T) {
	for _, tt := range []struct {
		name string
		note rules.Note
		want bool
	}{
		{"accepted", rules.Note{Kind: rules.Decided, Verdict: rules.Accepted}, false},
		{"dropped", rules.Note{Kind: rules.Decided, Verdict: rules.Dropped}, true},
		{"rejected", rules.Note{Kind: rules.Decided, Verdict: rules.Rejected}, true},
		{"logged", rules.Note{Kind: rules.Effect, Action: rules.LogIt}, true},
		{"has another effect", rules.Note{Kind: rules.Effect, Action: rules.AcceptIt}, false},
		{"would be rejected", rules.Note{Kind: rules.Effect, Action: rules.RejectIt, Audit: true}, true},
		{"would be dropped", rules.Note{Kind: rules.Effect, Action: rules.DropIt, Audit: true}, true},
		{"conflict", rules.Note{Kind: rules.Conflict}, true},
		{"subflow", rules.Note{Kind: rules.Subflow}, true},
	} {
		if got := worthAnEvent(&tt.note); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// Ends that know of a connection are told, and of other flows who has sent the packet.
func TestTargetOf(t *testing.T) {
	for _, tt := range []struct {
		name     string
		flow     rules.Flow
		packet   bool
		toServer bool
		want     eve.Target
	}{
		{"SYN", rules.Flow{Protocol: "tcp"}, true, true, eve.ToClient},
		{"hello", rules.Flow{Protocol: "tcp", AppProtocol: "tls"}, true, true, eve.Both},
		{"what a server says", rules.Flow{Protocol: "tcp", AppProtocol: "none"}, true, false, eve.Both},
		{"query", rules.Flow{Protocol: "udp", AppProtocol: "dns"}, true, true, eve.ToClient},
		{"answer", rules.Flow{Protocol: "udp", AppProtocol: "dns"}, true, false, eve.ToServer},
		{"ping", rules.Flow{Protocol: "icmp"}, true, true, eve.ToClient},
		{"time is over", rules.Flow{Protocol: "tcp", AppProtocol: "unknown"}, false, true, eve.Nobody},
	} {
		n := rules.Note{Flow: &tt.flow, ToServer: tt.toServer}
		if tt.packet {
			n.Packet = another(n.Packet)
		}
		if got := targetOf(&n); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// another returns a value of a type that has no name here.
func another[T any](*T) *T { return new(T) }

// Flows have the same number in all their events, and differ from those of other
// interfaces also in the bits that readers of JSON can keep. None is 0, which leaves the
// number out.
func TestFlowID(t *testing.T) {
	const kept = 1<<53 - 1
	seen := make(map[uint64]string)
	for _, a := range []*inspect.Attachment{
		{ContainerID: "a", Ifname: "eth0"},
		{ContainerID: "a", Ifname: "net1"},
		{ContainerID: "b", Ifname: "eth0"},
	} {
		for _, id := range []uint64{1, 2, 1<<32 - 1} {
			n := flowID(a, id)
			if n == 0 || n != flowID(a, id) || n&0xffffffff != id {
				t.Errorf("%+v, flow %d: %d", a, id, n)
			}
			flow := a.ContainerID + a.Ifname
			if other, ok := seen[n&kept]; ok {
				t.Errorf("flow %d of %s and one of %s have the same number", id, flow, other)
			}
			seen[n&kept] = flow
		}
	}
}
