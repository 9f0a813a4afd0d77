// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/rules"
)

func TestAsk(t *testing.T) {
	question := func(change func(*Question)) *Question {
		q := &Question{
			Pod: rules.Pod{Namespace: "web", Name: "shop"}, Protocol: "tcp", UID: -1,
			Client: netip.MustParseAddrPort("10.0.0.1:40000"),
			Server: netip.MustParseAddrPort("203.0.113.5:443"),
		}
		change(q)
		return q
	}
	const file = "testdata/rules.yaml"
	const when = `domain(tls.sni).matches("*.blocked.example") || ` +
		`domain(dns.name).matches("*.blocked.example") || ` +
		`domain(http.host).matches("*.blocked.example")`
	refused := Reply{
		Verdict: "reject", RuleSet: "blocked", Rule: "names", File: file, Line: 7, When: when,
		Message: "pod shop asks for x.blocked.example", Sets: 1,
	}
	unnamed := refused
	unnamed.Message = "pod shop asks for "
	accepted := Reply{Verdict: "accept", Rule: "default", Sets: 1}
	audited := Reply{
		Verdict: "accept", Rule: "default", Sets: 2,
		Effects: []Effect{
			{RuleSet: "sandbox", Rule: "web", Action: "log", Audit: true},
			{RuleSet: "sandbox", Rule: "default", Action: "drop", Audit: true},
		},
	}
	undecided := Reply{
		Verdict: "undecided", RuleSet: "blocked", Rule: "names", File: file, Line: 7, When: when,
		Sets: 1, WaitsFor: []string{"tls.sni", "dns.name", "http.host"},
	}
	for name, test := range map[string]struct {
		change func(*Question)
		want   Reply
	}{
		"tls":        {func(q *Question) { q.App, q.Name = "tls", "X.Blocked.example." }, refused},
		"quic":       {func(q *Question) { q.App, q.Name, q.Protocol = "quic", "x.blocked.example", "udp" }, refused},
		"dns":        {func(q *Question) { q.App, q.Name, q.DNSType = "dns", "x.blocked.example", "A" }, unnamed},
		"http":       {func(q *Question) { q.App, q.Name, q.Path = "http", "x.blocked.example", "/a?b" }, unnamed},
		"other name": {func(q *Question) { q.App, q.Name = "tls", "example.org" }, accepted},
		"no name":    {func(*Question) {}, undecided},
		"icmp":       {func(q *Question) { q.Protocol = "icmp" }, accepted},
		"incoming":   {func(q *Question) { q.Incoming, q.App = true, "ssh" }, accepted},
		"audit": {func(q *Question) {
			q.Pod.Namespace, q.App, q.Name = "agents", "tls", "example.org"
		}, audited},
	} {
		t.Run(name, func(t *testing.T) {
			got := Ask(load(t), question(test.change))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("reply (-want +got):\n%s", diff)
			}
		})
	}
}
