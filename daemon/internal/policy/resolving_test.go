// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
)

const resolver, other = "10.96.0.10", "192.0.2.53"

// dnsPacket is a question of a pod, or the answer of the server, in a packet.
func dnsPacket(t *testing.T, a *inspect.Attachment, server, name string, isAnswer bool) *inspect.Packet {
	t.Helper()
	q := dnsmessage.Question{
		Name: dnsmessage.MustNewName(name + "."), Type: dnsmessage.TypeA,
		Class: dnsmessage.ClassINET,
	}
	m := dnsmessage.Message{
		Header: dnsmessage.Header{ID: 7, Response: isAnswer}, Questions: []dnsmessage.Question{q},
	}
	if isAnswer {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60},
			Body:   &dnsmessage.AResource{A: [4]byte{203, 0, 113, 9}},
		}}
	}
	payload, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	pod, direction := netip.MustParseAddr("10.244.0.5"), inspect.Out
	from, to := netip.AddrPortFrom(pod, 40000), netip.AddrPortFrom(netip.MustParseAddr(server), 53)
	if isAnswer {
		from, to, direction = to, from, inspect.In
	}
	b := make([]byte, 28, 28+len(payload))
	b[0], b[8], b[9] = 0x45, 64, inspect.ProtoUDP
	binary.BigEndian.PutUint16(b[2:], uint16(28+len(payload)))
	copy(b[12:], from.Addr().AsSlice())
	copy(b[16:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[20:], from.Port())
	binary.BigEndian.PutUint16(b[22:], to.Port())
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(payload)))
	b = append(b, payload...)
	return &inspect.Packet{
		Direction: direction, Payload: b, Length: len(b), UID: -1, Attachment: a,
	}
}

// namedRules refuse the question for bad.example.
const namedRules = header + `  default: reject
  rules:
  - {name: bad, when: dns.name == "bad.example", action: reject}
  - {name: dns, when: server.port == 53, action: accept}
  - {name: named, when: 'server.names.exists(n, n == "good.example")', action: accept}
`

func TestServerNames(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.yaml")
	write(t, file, fmt.Sprintf(namedRules, "s"))
	p, err := New(t.Context(), Config{
		Directories: []string{dir}, Log: slog.New(slog.DiscardHandler),
		Resolvers: []netip.Addr{netip.MustParseAddr(resolver)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := p.Rules().ServerNames; n != nil {
		t.Errorf("without an attachment: %+v", n)
	}
	a := &inspect.Attachment{ContainerID: "c", Ifname: "eth0", PodNamespace: "agents", PodName: "a1"}
	p.inspector.Attached(a)
	want := api.ServerNames{Attachments: 1, Resolvers: []string{resolver}}
	for _, step := range []struct {
		server, name string
		isAnswer     bool
		grow         func()
	}{
		{other, "good.example", false, func() { want.Others, want.Other = 1, other }},
		{other, "good.example", true, func() {}},
		{resolver, "bad.example", false, func() { want.Refused, want.RefusedBy = 1, "s/bad" }},
		{other, "bad.example", false, func() {}},
		{resolver, "good.example", false, func() { want.Questions = 1 }},
		{resolver, "good.example", true, func() { want.Answers = 1 }},
		{resolver, "good.example", true, func() {}}, // again
	} {
		p.inspector.Inspect(dnsPacket(t, a, step.server, step.name, step.isAnswer))
		step.grow()
		if diff := cmp.Diff(&want, p.Rules().ServerNames); diff != "" {
			t.Fatalf("after %+v (-want +got):\n%s", step, diff)
		}
	}
	b := &inspect.Attachment{ContainerID: "d", Ifname: "eth0", PodNamespace: "agents", PodName: "a2"}
	p.inspector.Attached(b)
	p.inspector.Detached(a)
	if diff := cmp.Diff(&want, p.Rules().ServerNames); diff != "" {
		t.Errorf("the counts of a pod that is gone are forgotten (-want +got):\n%s", diff)
	}
	write(t, file, ruleSet("other", "reject"))
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	if n := p.Rules().ServerNames; n != nil {
		t.Errorf("nobody asks: %+v", n)
	}
}

// What is refused of a pod is counted once, however many interfaces it has.
func TestRefusedOfPod(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), fmt.Sprintf(namedRules, "s"))
	p := open(t.Context(), t, dir)
	for i, ifname := range []string{"eth0", "net1"} {
		a := &inspect.Attachment{
			ContainerID: "c", Ifname: ifname, PodNamespace: "agents", PodName: "a1",
		}
		p.inspector.Attached(a)
		p.inspector.Inspect(dnsPacket(t, a, resolver, "bad.example", false))
		if n := p.Numbers().Refused[api.Pod{Namespace: "agents", Name: "a1"}]; n != uint64(i+1) {
			t.Errorf("%d refused, want %d", n, i+1)
		}
	}
}
