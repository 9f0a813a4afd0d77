// SPDX-License-Identifier: Apache-2.0

// Package evasion has the ways in which somebody may try to get past rules on names, each
// as a test of its own. It has nothing but tests: docs/evasions.md names them.
package evasion

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// The names that are asked for. One is refused by all sets of rules, the other by none.
const (
	blockedName = "www.blocked.example"
	allowedName = "www.allowed.example"
)

// denyList refuses blocked names, and nothing else.
const denyList = `
  sets: {blocked: {domains: ["*.blocked.example"]}}
  rules:
  - {name: tls, when: sets.blocked.contains(tls.sni), action: reject}
  - {name: dns, when: sets.blocked.contains(dns.name), action: reject}
  - {name: http, when: sets.blocked.contains(http.host), action: reject}
`

// strictList also refuses what cannot be read.
const strictList = denyList + `  - {name: broken, when: app.error != "", action: reject}
`

// allowList lets allowed names pass, and nothing else.
const allowList = `
  default: reject
  sets: {allowed: {domains: ["*.allowed.example"]}}
  rules:
  - {name: tls, when: 'app.protocol in ["tls", "quic"] && sets.allowed.contains(tls.sni)', action: accept}
  - {name: dns, when: app.protocol == "dns" && sets.allowed.contains(dns.name), action: accept}
  - {name: http, when: app.protocol == "http" && sets.allowed.contains(http.host), action: accept}
`

// evasion is one way to ask for a name.
type evasion struct {
	name string
	play func(p *player, name string)
	// want has what becomes of each packet that the play does not keep to itself, where
	// the name is blocked: under the allow list, and under the others too.
	want string
	// deny is the same under the deny list, and strict under the strict one; where it is
	// empty, want counts.
	deny, strict string
	// always says that the answers are the same whatever the name is.
	always bool
	// spec is added to the sets of rules.
	spec string
}

// runEvasions plays each evasion under each set of rules: with the blocked name, with the
// allowed one, of which no packet may be refused, and with the sets that only audit.
func runEvasions(t *testing.T, list []evasion) {
	t.Helper()
	for _, e := range list {
		t.Run(e.name, func(t *testing.T) {
			for _, s := range []struct{ name, rules, want string }{
				{"deny list", denyList, or(e.deny, e.want)},
				{"strict deny list", strictList, or(e.strict, e.want)},
				{"allow list", allowList, e.want},
			} {
				t.Run(s.name, func(t *testing.T) { e.run(t, s.rules, s.want) })
			}
		})
	}
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (e *evasion) run(t *testing.T, spec, want string) {
	p := newPlayer(t, e.spec+spec)
	e.play(p, blockedName)
	p.end(want)
	if !e.always {
		p = newPlayer(t, e.spec+spec)
		e.play(p, allowedName)
		p.wantNone("reject", "drop")
	}
	p = newPlayer(t, "\n  mode: Audit"+e.spec+spec)
	e.play(p, blockedName)
	p.wantNone("reject")
	if !strings.Contains(want, "drop") {
		p.wantNone("drop")
	}
}

// wantNone expects that no packet was answered with one of these words.
func (p *player) wantNone(words ...string) {
	p.tb.Helper()
	for _, word := range words {
		if got := strings.Join(p.got, " "); strings.Contains(got, word) {
			p.tb.Errorf("%s: none may be answered with %s", got, word)
		}
	}
}

// player sends packets of a pod with the address 10.0.0.1.
type player struct {
	tb    testing.TB
	judge func(*inspect.Packet) string
	now   time.Duration
	got   []string
	conns []*conn
	told  []string // what was decided, each as verdict and error
}

func newPlayer(tb testing.TB, spec string) *player {
	tb.Helper()
	p := &player{tb: tb, now: time.Hour}
	trial := compile(tb, spec).Try(new(rules.Pod), p)
	tb.Cleanup(trial.End)
	p.judge = func(packet *inspect.Packet) string { return trial.Judge(packet, p.now).Action.String() }
	return p
}

func compile(tb testing.TB, spec string) *rules.Rules {
	tb.Helper()
	text := "apiVersion: nsqueue.io/v1alpha1\nkind: RuleSet\nmetadata: {name: s}\nspec:" + spec
	r, err := rules.Compile(rules.File{Name: "s.yaml", Data: []byte(text)})
	must(tb, err)
	return r
}

// Note writes down decisions, and what was dropped whatever rules say.
func (p *player) Note(_ *inspect.Attachment, _ *rules.Pod, n *rules.Note) {
	switch n.Kind {
	case rules.Effect:
		return
	case rules.Conflict:
		p.told = append(p.told, "conflict")
	default:
		p.told = append(p.told, strings.TrimSpace(n.Verdict.String()+" "+n.Flow.AppError))
	}
}

// end compares what became of the packets, and looks whether each connection of which some
// were refused lacks them at its other end, and whether that was told.
func (p *player) end(want string) {
	p.tb.Helper()
	if got := strings.Join(p.got, " "); got != want {
		p.tb.Errorf("%s, want %s", got, want)
	}
	if !strings.Contains(want, "reject") && !strings.Contains(want, "drop") {
		return
	}
	for _, c := range p.conns {
		if c.refused && c.isDeceived() {
			p.tb.Error("the server has all that the client said")
		}
	}
	told := strings.Join(p.told, ", ")
	if strings.Contains(want, "reject") && !strings.Contains(told, "reject") {
		p.tb.Errorf("of the rejection only %q was told", told)
	}
}

// wait lets time pass.
func (p *player) wait(d time.Duration) { p.now += d }

// send lets the pod's judge answer to a packet, which it has a part of if length is more.
func (p *player) send(b []byte) string {
	return p.sendPacket(&inspect.Packet{Payload: b, Length: len(b)})
}

func (p *player) sendPacket(packet *inspect.Packet) string {
	p.tb.Helper()
	p.now += time.Millisecond
	packet.Direction = inspect.In
	if f, ok := packet.Flow(); ok && (f.Source == addr("10.0.0.1") || f.Source == addr("fd00::1")) {
		packet.Direction = inspect.Out
	}
	action := p.judge(packet)
	p.got = append(p.got, action)
	return action
}

// quietly sends what must pass and is not in the answer.
func (p *player) quietly(send func()) {
	p.tb.Helper()
	n := len(p.got)
	send()
	for _, action := range p.got[n:] {
		if action != "pass" && action != "accept" {
			p.tb.Errorf("what has to pass is answered with %s", action)
		}
	}
	p.got = p.got[:n]
}

// conn is a connection of TCP, with what its server has got.
type conn struct {
	p              *player
	client, server string
	cseq, sseq     uint32
	start          uint32
	first, last    map[uint32]byte // what the server keeps: the first byte, or the last
	refused        bool
}

func (p *player) conn(client, server string) *conn {
	c := &conn{
		p: p, client: client, server: server, cseq: 1000, sseq: 5000, start: 1001,
		first: make(map[uint32]byte), last: make(map[uint32]byte),
	}
	p.conns = append(p.conns, c)
	return c
}

// web is a connection of the pod's to a server, and served one to the pod.
func (p *player) web() *conn    { return p.conn("10.0.0.1:40000", "203.0.113.5:443") }
func (p *player) served() *conn { return p.conn("198.51.100.7:50000", "10.0.0.1:443") }

// open is the handshake.
func (c *conn) open() *conn {
	c.p.tb.Helper()
	c.p.quietly(func() {
		c.send(syn, c.cseq, nil)
		c.cseq++
		c.start = c.cseq
		c.answer(syn|ack, nil)
		c.sseq++
		c.send(ack, c.cseq, nil)
	})
	return c
}

func (c *conn) segment(flags uint8, seq uint32, payload []byte) segment {
	return segment{
		from: addrPort(c.client), to: addrPort(c.server), flags: flags, seq: seq, ack: c.sseq, payload: payload,
	}
}

// send sends a segment of the client.
func (c *conn) send(flags uint8, seq uint32, payload []byte, options ...byte) {
	c.p.tb.Helper()
	s := c.segment(flags, seq, payload)
	s.options = options
	action := c.p.send(s.packet())
	c.note(action, seq, payload)
}

// note gives the server what passes.
func (c *conn) note(action string, seq uint32, payload []byte) {
	if action == "reject" || action == "drop" {
		c.refused = true
		return
	}
	for i, b := range payload {
		at := seq + uint32(i)
		c.last[at] = b
		if _, ok := c.first[at]; !ok {
			c.first[at] = b
		}
	}
}

// again begins another connection between the same ports.
func (c *conn) again() *conn {
	c.cseq, c.sseq, c.start = c.cseq+900000, c.sseq+800000, c.cseq+900001
	return c
}

// isDeceived reports whether the server has all bytes that the client has sent, and whether
// they may be more than the hello that was allowed.
func (c *conn) isDeceived() bool {
	allowed := true
	for _, kept := range []map[uint32]byte{c.first, c.last} {
		var all []byte
		for seq := c.start; seq != c.cseq; seq++ {
			b, ok := kept[seq]
			if !ok {
				return false
			}
			all = append(all, b)
		}
		allowed = allowed && bytes.Contains(all, []byte("allowed"))
	}
	return c.cseq != c.start && !allowed
}

// answer sends a segment of the server.
func (c *conn) answer(flags uint8, payload []byte) {
	c.p.tb.Helper()
	s := segment{
		from: addrPort(c.server), to: addrPort(c.client), flags: flags, seq: c.sseq, ack: c.cseq, payload: payload,
	}
	c.p.send(s.packet())
}

// say sends bytes to the server, as one segment each.
func (c *conn) say(segments ...[]byte) {
	c.p.tb.Helper()
	for _, payload := range segments {
		seq := c.cseq
		c.cseq += uint32(len(payload))
		c.send(ack, seq, payload)
	}
}

// reply sends bytes to the client, which pass.
func (c *conn) reply(payload []byte) {
	c.p.tb.Helper()
	c.p.quietly(func() { c.answer(ack, payload) })
	c.sseq += uint32(len(payload))
}

// reject names n rejected packets.
func reject(n int) string { return strings.TrimSpace(strings.Repeat("reject ", n)) }
