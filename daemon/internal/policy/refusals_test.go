// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// remembered are the refusals that were reported.
type remembered []api.Event

func (*remembered) ReportRules(slog.Level, string)  {}
func (r *remembered) ReportRefusal(event api.Event) { *r = append(*r, event) }

func refusedFlow() *rules.Flow {
	return &rules.Flow{
		Direction: "out", Protocol: "tcp", ClientIP: netip.MustParseAddr("10.0.0.1"),
		ClientPort: 40000, ServerIP: netip.MustParseAddr("192.0.2.1"), ServerPort: 443,
		AppProtocol: "tls", TLSServerName: "a.example",
	}
}

// What is refused is told with its rule, and what is logged or accepted is not.
func TestRefusals(t *testing.T) {
	a := &inspect.Attachment{ContainerID: "c", Ifname: "eth0", PodNamespace: "agents", PodName: "a"}
	set := &rules.Set{Name: "web"}
	incoming := refusedFlow()
	incoming.Direction, incoming.AppProtocol = "in", ""
	query := refusedFlow()
	query.AppProtocol, query.DNSName, query.DNSResponse = "dns", "b.\xff", true
	for _, test := range []struct {
		note rules.Note
		want string
	}{
		{rules.Note{Verdict: rules.Accepted, Set: set}, ""},
		{rules.Note{Kind: rules.Effect, Action: rules.LogIt, Set: set}, ""},
		{rules.Note{Kind: rules.Effect, Audit: true, Action: rules.AcceptIt, Set: set}, ""},
		{
			rules.Note{Verdict: rules.Rejected, Set: set},
			"refusal rejected by web/default: tcp to 192.0.2.1:443, tls a.example",
		},
		{
			rules.Note{Verdict: rules.Dropped, Set: set, Flow: incoming},
			"refusal dropped by web/default: tcp from 10.0.0.1 to port 443",
		},
		{
			rules.Note{Kind: rules.Effect, Audit: true, Action: rules.DropIt, Set: set, Flow: query},
			"audit would be dropped by web/default: tcp to 192.0.2.1:443, dns b.\uFFFD",
		},
		{
			rules.Note{Kind: rules.Conflict},
			"refusal dropped by nsqueue/conflict: tcp to 192.0.2.1:443, tls a.example",
		},
	} {
		n := test.note
		if n.Flow == nil {
			n.Flow = refusedFlow()
		}
		e, err := newEvents(&Events{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		e.note(a, rules.PodOf(a), &n, 0)
		var got remembered
		e.refusals.deliver(&got)
		text := ""
		for _, event := range got {
			text += string(event.Kind) + " " + event.Message
			if event.Key.String() != "c/eth0" || event.Pod.String() != "agents/a" || event.Refusal.Count != 1 {
				t.Errorf("%+v", event)
			}
		}
		if text != test.want {
			t.Errorf("%q, want %q", text, test.want)
		}
	}
}

// More than there is room for is dropped and counted, also of long texts.
func TestRefusalsBounded(t *testing.T) {
	r := newRefusals()
	f := refusedFlow()
	f.TLSServerName = strings.Repeat("é", 1000)
	n := &rules.Note{Verdict: rules.Rejected, Flow: f}
	for range mostRefusals + 5 {
		r.add(&inspect.Attachment{}, n, "a/b", 0)
	}
	var got remembered
	r.deliver(&got)
	if len(got) != mostRefusals || r.dropped.Load() != 5 {
		t.Errorf("%d delivered, %d dropped", len(got), r.dropped.Load())
	}
	if name := got[0].Refusal.Name; len(name) > maxText+2 || !strings.HasSuffix(name, "é\uFFFD") {
		t.Errorf("a name of %d bytes, %q", len(name), name[max(0, len(name)-6):])
	}
}
