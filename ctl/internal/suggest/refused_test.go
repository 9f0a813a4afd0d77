// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
)

func TestAccepting(t *testing.T) {
	pod := api.Pod{Namespace: "agents", Name: "a1"}
	for name, tt := range map[string]struct {
		refusal api.Refusal
		want    string
	}{
		"TLS": {
			api.Refusal{Direction: "out", Protocol: "tcp", Address: "203.0.113.9", Port: 443, App: "tls", Name: "a.example"},
			`flow.direction == "out" && server.port == 443 && app.protocol in ["tls", "quic"] && tls.sni == "a.example"`,
		},
		"DNS": {
			api.Refusal{Direction: "out", Protocol: "udp", Address: "10.96.0.10", Port: 53, App: "dns", Name: "a.example"},
			`flow.direction == "out" && server.port == 53 && app.protocol == "dns" && dns.name == "a.example"`,
		},
		"no name": {
			api.Refusal{Direction: "out", Protocol: "udp", Address: "203.0.113.9", Port: 123, App: "unknown"},
			`flow.direction == "out" && server.port == 123 && flow.protocol == "udp" && server.ip == ip("203.0.113.9")`,
		},
		"incoming, no port": {
			api.Refusal{Direction: "in", Protocol: "icmp", Address: "fe80::1%eth0"},
			`flow.direction == "in" && flow.protocol == "icmp" && client.ip == ip("fe80::1")`,
		},
	} {
		set, err := Accepting(pod, &tt.refusal, 100)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, err := set.YAML()
		if err != nil || set.Spec.Rules[0].When != tt.want || set.Spec.Priority != 99 {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

// What the network has sent never becomes part of a rule, but as what it is.
func TestAcceptingStrange(t *testing.T) {
	for _, r := range []api.Refusal{
		{Direction: "both", Protocol: "tcp", Address: "192.0.2.1"},
		{Direction: "out", Protocol: `tcp" || true || "`, Address: "192.0.2.1"},
		{Direction: "out", Protocol: "tcp", Address: "no address"},
		{Direction: "out", Protocol: "tcp", Address: "192.0.2.1", App: "tls", Name: "a\nb"},
		{Direction: "out", Protocol: "tcp", Address: "192.0.2.1", App: "http", Name: `x" || true`},
	} {
		if set, err := Accepting(api.Pod{Namespace: "agents"}, &r, 0); err == nil {
			t.Errorf("%+v: %+v", r, set)
		}
	}
	pod := api.Pod{Namespace: "a", Name: `x" || true`}
	set, err := Accepting(pod, &api.Refusal{Direction: "out", Protocol: "tcp", Address: "192.0.2.1"}, 0)
	if err != nil || set.Spec.Pods.When != `pod.name == "x\" || true"` || set.Spec.Priority != 0 {
		t.Errorf("%+v, %v", set, err)
	}
}

// Long names stay names, whatever they are made of.
func TestSetName(t *testing.T) {
	if got := setName("allow", "", "A.b_c"); got != "allow-a-b-c" {
		t.Errorf("name %q", got)
	}
	if got := setName("allow", strings.Repeat("ä", 200)); got != "allow" {
		t.Errorf("name %q", got)
	}
}
