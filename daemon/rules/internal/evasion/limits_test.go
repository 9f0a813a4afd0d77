// SPDX-License-Identifier: Apache-2.0

package evasion

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// node has an inspector whose pods are players.
type node struct {
	*rules.Inspector
	tb  testing.TB
	now time.Duration
}

func newNode(tb testing.TB, spec string) *node {
	tb.Helper()
	n := &node{tb: tb, now: time.Hour}
	n.Inspector = rules.New(rules.Options{Rules: compile(tb, spec), Now: func() time.Duration { return n.now }})
	return n
}

// pod attaches a pod. What passes is accepted, decided or not.
func (n *node) pod(name string) *player {
	a := &inspect.Attachment{ContainerID: name, PodName: name}
	n.Attached(a)
	n.tb.Cleanup(func() { n.Detached(a) })
	return &player{tb: n.tb, judge: func(p *inspect.Packet) string {
		n.now += time.Microsecond
		p.Attachment = a
		return n.Inspect(p).Action.String()
	}}
}

// One pod that asks for more than there is gets decisions by what there is. Another one does
// not notice.
func TestLimits(t *testing.T) {
	half := record(helloOf(allowedName))[:100]
	for _, c := range []struct {
		name  string
		flood func(p *player, i int)
		count int
	}{
		{"100,000 undecided connections", func(p *player, i int) {
			s := segment{from: addrPort("10.0.0.1:40000"), to: addrPort("203.0.113.5:443"), flags: syn}
			b := s.packet()
			binary.BigEndian.PutUint32(b[16:], 0xcb000000+uint32(i)) // the server's address
			p.send(b)
		}, 100_000},
		{"64 MiB of half hellos", func(p *player, i int) {
			s := segment{from: addrPort("10.0.0.1:40000"), to: addrPort("203.0.113.5:443"), flags: syn}
			s.payload = slices.Concat(half, make([]byte, 3900))
			b := s.packet()
			binary.BigEndian.PutUint32(b[16:], 0xcb000000+uint32(i))
			p.send(b)
		}, 64 << 20 / 4000},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t, allowList)
			flood, other := n.pod("flood"), n.pod("other")
			for i := range c.count {
				c.flood(flood, i)
				flood.got = flood.got[:0]
			}
			if s := n.Stats(); s.Memory > 4<<20 || s.Flows > 65536 {
				t.Errorf("%d bytes, %d flows", s.Memory, s.Flows)
			}
			other.web().open().say(record(helloOf(allowedName)))
			other.conn("10.0.0.1:40001", "203.0.113.5:443").open().say(record(helloOf(blockedName)))
			if got := strings.Join(other.got, " "); got != "accept reject" {
				t.Errorf("another pod: %s", got)
			}
		})
	}
}

// Of each flow few Initial packets are opened, and of all flows few bytes are kept.
func TestManyInitials(t *testing.T) {
	n := newNode(t, allowList)
	flood, other := n.pod("flood"), n.pod("other")
	f := quicFlow{flood}
	a, _ := halves(long(allowedName))
	b := udpPacket(addrPort("10.0.0.1:4000"), addrPort("203.0.113.5:443"), f.seal(initial{frames: a}))
	for i := range 20_000 {
		binary.BigEndian.PutUint32(b[16:], 0xcb000000+uint32(i/8))
		flood.send(b)
		flood.got = flood.got[:0]
		if i%1000 == 0 {
			n.Tick()
		}
	}
	s := n.Stats()
	if s.Memory > 4<<20 || s.Errors[[2]string{"quic", "limit"}] == 0 {
		t.Errorf("%d bytes, errors %v", s.Memory, s.Errors)
	}
	quicFlow{other}.say(quicFlow{other}.seal(initial{frames: plain(helloOf(allowedName))}))
	if last(other.got) != "accept" {
		t.Errorf("another pod: %s", other.got)
	}
}

// Rules that come while a client speaks decide what it says.
func TestReload(t *testing.T) {
	hello := record(helloOf(blockedName))
	halfway := func(t *testing.T) (*node, *player, *conn) {
		n := newNode(t, "\n  rules: [{name: none, when: tls.sni == 'none.example', action: drop}]")
		p := n.pod("a")
		c := p.web().open()
		c.say(hello[:60])
		return n, p, c
	}
	t.Run("between two segments", func(t *testing.T) {
		for _, spec := range []string{denyList, strictList, allowList} {
			n, p, c := halfway(t)
			n.replace(compile(t, spec))
			c.say(hello[60:])
			if got := strings.Join(p.got, " "); got != "accept reject" {
				t.Error(got)
			}
		}
	})
	t.Run("to rules that need no bytes", func(t *testing.T) {
		n, p, c := halfway(t)
		n.replace(compile(t, "\n  rules: [{name: web, when: server.port == 443, action: reject}]"))
		c.say(hello[60:])
		if got := strings.Join(p.got, " "); got != "accept reject" {
			t.Error(got)
		}
	})
	t.Run("of a broken file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "broken.yaml")
		must(t, os.WriteFile(file, []byte("kind: RuleSet\nspec: {rules: ["), 0o600))
		if r, err := rules.Load(file); err == nil || r != nil {
			t.Errorf("rules %v, error %v", r, err)
		}
	})
	t.Run("of what was decided", func(t *testing.T) {
		n := newNode(t, denyList)
		p := n.pod("a")
		c := p.web().open()
		c.say(record(helloOf(allowedName)))
		c.reply([]byte("x"))
		n.replace(compile(t, strings.ReplaceAll(denyList, "blocked.example", "allowed.example")))
		c.say([]byte("x"))
		if got := strings.Join(p.got, " "); got != "accept reject" {
			t.Error(got)
		}
	})
}

// A set that passes on, and one that only audits, leave the decision to the next.
func TestNextSet(t *testing.T) {
	text := func(name, spec string) rules.File {
		return rules.File{Name: name, Data: []byte("apiVersion: nsqueue.io/v1alpha1\nkind: RuleSet\nmetadata: {name: " + name + "}\nspec:" + spec)}
	}
	for _, first := range []string{"\n  default: next", "\n  mode: Audit\n  default: accept", "\n  mode: Audit\n  default: drop"} {
		for name, spec := range map[string]string{"deny": denyList, "allow": allowList} {
			t.Run(name+strings.ReplaceAll(first, "\n ", ""), func(t *testing.T) {
				r, err := rules.Compile(text("a", first+"\n  priority: 1"), text("b", spec))
				must(t, err)
				p := &player{tb: t, now: time.Hour}
				trial := r.Try(new(rules.Pod), p)
				defer trial.End()
				p.judge = func(packet *inspect.Packet) string { return trial.Judge(packet, p.now).Action.String() }
				p.web().open().say(record(helloOf(blockedName)))
				p.conn("10.0.0.1:40001", "203.0.113.5:443").open().say(record(helloOf(allowedName)))
				p.end("reject accept")
			})
		}
	}
}

func (n *node) replace(r *rules.Rules) {
	n.tb.Helper()
	_, err := n.Replace(n.tb.Context(), r)
	must(n.tb, err)
}
