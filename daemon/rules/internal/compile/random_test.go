// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// choices are bytes that choose. After their end each choice is the first one.
type choices struct {
	data   []byte
	locals []string
	// inside counts how deep exists and all stand in each other.
	inside int
	// chosen counts how deep texts that depend on questions do.
	chosen int
	// variables are the names and expressions of the set that is made.
	variables []string
}

func (c *choices) pick(n int) int {
	value := 0
	for limit := 1; limit < n && len(c.data) > 0; limit *= 256 {
		value = value<<8 | int(c.data[0])
		c.data = c.data[1:]
	}
	return value % n
}

func (c *choices) of(list ...string) string { return list[c.pick(len(list))] }

type randomRule struct {
	name, when, inlined string
	action              Action
}

type randomSet struct {
	name                   string
	priority               int
	audit, AcceptMidstream bool
	fallback               Action
	variables              []string
	rules                  []*randomRule
}

func randomSets(c *choices) (all []*randomSet) {
	for _, name := range []string{"b", "a", "c"}[:1+c.pick(3)] {
		set := &randomSet{
			name: name, priority: c.pick(2), audit: c.pick(3) == 1, AcceptMidstream: c.pick(2) == 0,
			fallback: []Action{Next, Accept, Drop, Reject}[c.pick(4)],
		}
		c.variables = nil
		for range c.pick(3) {
			c.variables = append(c.variables, c.condition(1))
		}
		set.variables = c.variables
		for i := range 1 + c.pick(4) {
			when := c.condition(3)
			if c.pick(2) == 1 {
				when = c.key() + " && " + when
			}
			set.rules = append(set.rules, &randomRule{
				name: fmt.Sprintf("r%d", i), when: when, inlined: inline(when, set.variables),
				action: []Action{Accept, Drop, Reject, Log, Count, Next}[c.pick(6)],
			})
		}
		all = append(all, set)
	}
	return all
}

// inline writes variables out, the last ones first: each may use those before it.
func inline(when string, variables []string) string {
	for i, variable := range slices.Backward(variables) {
		when = strings.ReplaceAll(when, fmt.Sprintf("variables.v%d", i), "("+variable+")")
	}
	return when
}

func (s *randomSet) text() string {
	quoted := func(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
	lines := []string{
		fmt.Sprintf("priority: %d", s.priority), "trustAnnotations: true", "default: " + s.fallback.String(),
		"sets: {names: {domains: ['*.blocked.example', x]}, nets: {cidrs: [10.0.0.0/8]}}",
		"mode: " + map[bool]string{true: "Audit", false: "Enforce"}[s.audit],
		"midstream: " + map[bool]string{true: "accept", false: "judge"}[s.AcceptMidstream],
		"variables:",
	}
	if len(s.variables) == 0 {
		lines = lines[:len(lines)-1]
	}
	for i, v := range s.variables {
		lines = append(lines, fmt.Sprintf("- {name: v%d, expression: %s}", i, quoted(v)))
	}
	lines = append(lines, "rules:")
	for _, r := range s.rules {
		lines = append(lines, fmt.Sprintf("- {name: %s, action: %s, when: %s}", r.name, r.action, quoted(r.when)))
	}
	return set(s.name, lines...)
}

func (c *choices) condition(depth int) string {
	if depth == 0 {
		return c.question()
	}
	a := func() string { return c.condition(depth - 1) }
	switch c.pick(9) {
	case 1:
		return "(" + a() + " && " + a() + ")"
	case 2:
		return "(" + a() + " || " + a() + ")"
	case 3:
		return "!(" + a() + ")"
	case 4:
		return "(" + a() + " ? " + a() + " : " + a() + ")"
	case 5:
		return "((" + a() + ")" + c.of(" == ", " != ") + "(" + a() + "))"
	case 6:
		return c.quantified(depth)
	case 7:
		if n := len(c.variables); n > 0 {
			return fmt.Sprintf("variables.v%d", c.pick(n))
		}
	case 8:
		return a() + " && " + a() + " && " + a()
	}
	return c.question()
}

func (c *choices) quantified(depth int) string {
	if c.inside == 2 {
		return c.question()
	}
	name := fmt.Sprintf("n%d", c.inside)
	list := c.list()
	c.inside++
	c.locals = append(c.locals, name)
	condition := c.condition(depth - 1)
	c.locals = c.locals[:len(c.locals)-1]
	c.inside--
	return fmt.Sprintf("%s.%s(%s, %s)", list, c.of("exists", "all"), name, condition)
}

func (c *choices) question() string {
	switch c.pick(14) {
	case 1:
		return c.str() + c.of(" == ", " != ", " < ", " >= ") + c.str()
	case 2:
		return c.str() + " in [" + c.str() + ", " + c.str() + "]"
	case 3:
		return c.num() + c.of(" == ", " != ", " < ", " <= ", " > ", " >= ") + c.num()
	case 4:
		return c.num() + " in [" + c.num() + ", 443, 80]"
	case 5:
		return "sets.names.contains(" + c.str() + ")"
	case 6:
		return "sets.nets.contains(" + c.ip() + ")"
	case 7:
		return c.ip() + c.of(" == ", " != ") + c.ip()
	case 8:
		return fmt.Sprintf("cidr(%q).containsIP(%s)", c.of("10.0.0.0/8", "2001:db8::/32"), c.ip())
	case 9:
		return c.of("flow.midstream", "tcp.mptcp", "tcp.fastOpen", "tls.ech", "dns.response", "true", "false")
	case 10:
		return c.str() + c.of(".startsWith(", ".endsWith(", ".contains(") + c.str() + ")"
	case 11:
		return c.str() + c.of(" in ", " in ") + c.list()
	case 12:
		return c.str() + c.of(`.matches("^a.*e$")`, `.matches("[xX]")`)
	case 13:
		return "domain(" + c.str() + c.of(`).matches("*.blocked.example")`, `).matches("x")`)
	}
	return "server.port == " + c.of("443", "80", "22")
}

// key is a question that an index of rules is made of.
func (c *choices) key() string {
	texts := `"` + c.of(words()...) + `", "` + c.of(words()...) + `"`
	text := c.of("tls.sni", "http.host", "dns.name", "app.protocol", "flow.protocol", "flow.direction")
	switch c.pick(6) {
	case 1:
		return text + " in [" + texts + "]"
	case 2:
		return "server.port in [" + c.of("443, 22", "80, 80", "1, 2, 3, 4, 5, 6, 7, 8, 9, 443") + "]"
	case 3:
		return "sets.names.contains(" + text + ")"
	case 4:
		return "sets.nets.contains(" + c.of("server.ip", "client.ip") + ")"
	case 5:
		return text + ` == "` + c.of(words()...) + `"`
	}
	return c.of("server.port", "client.port", "dns.rcode") + " == " + c.of("443", "80", "-1", "0", "22")
}

func (c *choices) str() string {
	switch c.pick(6) {
	case 1:
		if n := len(c.locals); n > 0 {
			return c.locals[c.pick(n)]
		}
	case 2:
		return `"` + c.of(words()...) + `"`
	case 3:
		if c.chosen == 3 {
			break
		}
		c.chosen++
		defer func() { c.chosen-- }()
		return "(" + c.question() + " ? " + c.of("tls.sni", "http.host", `"x"`) + " : dns.name)"
	case 4:
		return c.of(`pod.annotations["k"]`, "pod.name", "pod.namespace", `pod.labels.k`)
	}
	return c.of("tls.sni", "app.protocol", "flow.direction", "flow.protocol", "app.error", "tls.version",
		"tls.ja4", "dns.name", "dns.type", "http.method", "http.host", "http.path", "http.query",
		"http.version", "http.userAgent", "pod.uid", "pod.network", "pod.interface")
}

func (c *choices) num() string {
	return c.of("server.port", "client.port", "flow.family", "dns.rcode", "icmp.type", "icmp.code",
		"socket.uid", "443", "-1", "0", "size(server.names)", "tls.sni.size()", "size(tls.alpn)",
		"(flow.midstream ? server.port : dns.rcode)")
}

func (c *choices) ip() string {
	return c.of("server.ip", "client.ip", `ip("10.0.0.1")`, `ip("2001:db8::1")`, "(tls.ech ? server.ip : client.ip)")
}

func (c *choices) list() string {
	return c.of("server.names", "tls.alpn", `["x", "a.example"]`, "(tls.ech ? tls.alpn : server.names)")
}

func words() []string {
	return []string{"x", "", "tls", "http", "a.example", "www.blocked.example", "blocked.example", "ä", "443", "out"}
}

func randomFlow(c *choices) *Flow {
	w := func() string { return c.of(words()...) }
	n := func() int64 { return []int64{443, 80, 0, -1, 4, 2}[c.pick(6)] }
	ip := func() netip.Addr { return netip.MustParseAddr(c.of("10.0.0.1", "192.0.2.1", "2001:db8::1")) }
	pod := &Pod{
		Namespace: w(), Name: w(), UID: w(), Network: w(), Interface: w(),
		Annotations: map[string]string{"k": w()}, Labels: map[string]string{"k": w()},
	}
	f := &Flow{
		Known: Stage(c.pick(int(Everything) + 1)), Pod: pod, Direction: w(), Protocol: w(), Family: n(),
		Midstream: c.pick(4) == 1, ClientIP: ip(), ServerIP: ip(), ClientPort: n(), ServerPort: n(),
		ICMPType: n(), ICMPCode: n(), SocketUID: n(), MPTCP: c.pick(2) == 1, FastOpen: c.pick(2) == 1,
		ServerNames: []string{w(), w(), w()}[:c.pick(4)], AppProtocol: w(), AppError: w(),
		TLSServerName: w(), TLSVersion: w(), TLSJA4: w(), TLSALPN: []string{w(), w()}[:c.pick(3)],
		TLSECH: c.pick(2) == 1, DNSName: w(), DNSType: w(), DNSResponse: c.pick(2) == 1, DNSRCode: n(),
		HTTPMethod: w(), HTTPHost: w(), HTTPPath: w(), HTTPQuery: w(), HTTPVersion: w(), HTTPUserAgent: w(),
	}
	return f
}

// Rules decide as CEL's evaluator does, at the same moment.
func TestOracle(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	o := newOracle(t)
	for seed := range rounds {
		random := rand.New(rand.NewPCG(uint64(seed), 1))
		data := make([]byte, 4096)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		compare(t, o, &choices{data: data})
	}
}

func FuzzOracle(f *testing.F) {
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyz"))
	f.Add([]byte{2, 0, 1, 0, 3, 2, 6, 1, 4, 7, 9, 200, 100, 50, 25, 12, 6, 3, 1, 255, 254, 253})
	o := newOracle(f)
	f.Fuzz(func(t *testing.T, data []byte) { compare(t, o, &choices{data: data}) })
}
