// SPDX-License-Identifier: Apache-2.0

package hooktest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// message is an ICMPv6 message that a process with CAP_NET_RAW may send.
type message struct {
	kind, code byte
	hops       int
	options    bool // behind a hop-by-hop header with a router alert
}

func (m message) String() string {
	return fmt.Sprintf("type %d, code %d, hop limit %d, options %t",
		m.kind, m.code, m.hops, m.options)
}

// exempt reports what the hook must let pass.
func (m message) exempt() bool {
	switch {
	case m.code != 0:
		return false
	case m.kind >= 133 && m.kind <= 137:
		return m.hops == 255
	case m.kind >= 130 && m.kind <= 132, m.kind == 143:
		return m.hops == 1
	}
	return false
}

// messages returns all types around those of neighbours, as they are on their
// link and otherwise.
func messages() []message {
	var all []message
	for _, options := range []bool{false, true} {
		for _, hops := range []int{1, 2, 64, 254, 255} {
			for kind := byte(128); kind <= 144; kind++ {
				all = append(all, message{kind, 0, hops, options})
			}
		}
		for kind := byte(130); kind <= 143; kind++ {
			all = append(all, message{kind, 1, 1, options}, message{kind, 1, 255, options})
		}
	}
	return all
}

const (
	// numberOffset is where the tests' messages have their number.
	numberOffset = 4
	// unassigned is a type that no kernel answers and no hook lets pass.
	unassigned = 199
)

// sender sends numbered messages between two netns.
type sender struct {
	*testing.T
	fd   int
	to   netip.Addr
	sent uint32
}

func newSender(t *testing.T, from *nstest.NetNS, to netip.Addr) *sender {
	t.Helper()
	return &sender{T: t, fd: icmpSocket(t, from), to: to}
}

// icmpSocket returns a socket that has all ICMPv6 messages of the netns.
func icmpSocket(t *testing.T, n *nstest.NetNS) (fd int) {
	t.Helper()
	nstest.Must(t, n.Try(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		return os.NewSyscallError("socket", err)
	}))
	t.Cleanup(func() { nstest.Must(t, unix.Close(fd)) })
	return fd
}

// send returns the number of the message that it sends.
func (s *sender) send(m message) uint32 {
	s.Helper()
	options := ""
	if m.options {
		options = string([]byte{0, 0, 5, 2, 0, 0, 1, 0})
	}
	nstest.Must(s.T, unix.SetsockoptInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, m.hops))
	nstest.Must(s.T, unix.SetsockoptString(s.fd, unix.IPPROTO_IPV6, unix.IPV6_HOPOPTS, options))
	s.sent++
	body := binary.BigEndian.AppendUint32([]byte{m.kind, m.code, 0, 0}, s.sent)
	nstest.Must(s.T, unix.Sendto(s.fd, append(body, make([]byte, 20)...), 0,
		&unix.SockaddrInet6{Addr: s.to.As16()}))
	return s.sent
}

// numbers returns those that were seen going that way, in their order.
func (r *recorder) numbers(d inspect.Direction) map[uint32]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := make(map[uint32]bool)
	for i := range r.records {
		p := &r.records[i]
		if p.direction == d && p.flow.Protocol == inspect.ProtoICMPv6 &&
			len(p.flow.Transport) >= numberOffset+4 {
			seen[binary.BigEndian.Uint32(p.flow.Transport[numberOffset:])] = true
		}
	}
	return seen
}

// wantQueued sends the messages and expects those to be queued that are not
// exempt, and no other.
func (s *sender) wantQueued(
	seen *recorder, d inspect.Direction, all []message, exempt func(message) bool,
) {
	s.Helper()
	seen.reset()
	numbers := make(map[uint32]message)
	for _, m := range all {
		numbers[s.send(m)] = m
	}
	last := s.send(message{kind: unassigned, hops: 64})
	nstest.Eventually(s.T, reply, "the last message is queued", func() bool {
		return seen.numbers(d)[last]
	})
	got := seen.numbers(d)
	for number, m := range numbers {
		if want := !exempt(m); got[number] != want {
			s.Errorf("%s, %s: queued %t, want %t", m, d, got[number], want)
		}
	}
}

func testNeighbourMessages(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	if f.peer.Ping(t, f.pod.IPv6(), 1, reply) != 1 {
		t.Fatal("the pod does not answer before arming")
	}
	f.arm(all())
	seen := read(t, f.ns)
	// Numbers differ, so that an answer is not taken for a message.
	in, out := newSender(t, f.peer, f.pod.IPv6()), newSender(t, f.pod, f.peer.IPv6())
	in.sent, out.sent = 1<<16, 2<<16
	before, err := f.handle.Counters()
	nstest.Must(t, err)
	in.wantQueued(seen, inspect.In, messages(), message.exempt)
	out.wantQueued(seen, inspect.Out, messages(), message.exempt)
	after, err := f.handle.Counters()
	nstest.Must(t, err)
	exempt := uint64(0)
	for _, m := range messages() {
		if m.exempt() {
			exempt += 2
		}
	}
	if got := after.Exempt - before.Exempt; got < exempt {
		t.Errorf("%d exempt packets were counted, want at least %d", got, exempt)
	}
}

// A router takes one from the hop limit before packets meet the hook.
func testNeighbourForward(t *testing.T, h hook.Hook) {
	a, r, b := nstest.Line(t)
	handle := openHook(t, h, r)
	if a.Ping(t, b.IPv6(), 1, reply) != 1 {
		t.Fatal("no way through the pod before arming")
	}
	mustArm(t, handle, all())
	seen := read(t, open(t, r))
	var far []message
	for _, m := range messages() {
		if m.hops > 1 {
			far = append(far, m)
		}
	}
	newSender(t, a, b.IPv6()).
		wantQueued(seen, inspect.Forward, far, func(message) bool { return false })
}

func testListenerReport(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	f.arm(all())
	routers := icmpSocket(f.T, f.peer)
	joinGroup(t, f.peer, routers, "ff02::16")
	nstest.Must(t, unix.SetNonblock(routers, true))
	joinGroup(t, f.pod, icmpSocket(f.T, f.pod), "ff02::4e53")
	const reportV2 = 143
	group := net.ParseIP("ff02::4e53")
	buf := make([]byte, 1500)
	nstest.Eventually(t, reply, "the pod's report of its group arrives", func() bool {
		for {
			n, err := unix.Read(routers, buf)
			if err != nil {
				return false
			}
			if buf[0] == reportV2 && bytes.Contains(buf[:n], group) {
				return true
			}
		}
	})
}

func joinGroup(t *testing.T, n *nstest.NetNS, fd int, group string) {
	t.Helper()
	nstest.Must(t, n.Try(func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
			&unix.IPv6Mreq{
				Multiaddr: netip.MustParseAddr(group).As16(), Interface: uint32(link.Index),
			})
	}))
}
