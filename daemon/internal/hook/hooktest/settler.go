// SPDX-License-Identifier: Apache-2.0

package hooktest

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/nlsock"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// queued is a packet in a queue, with its priority.
type queued struct {
	inspect.Packet
	priority uint32
	answered bool // the kernel has done what its verdict says
}

// answer is a verdict with a request to settle.
type answer struct {
	drop    bool
	request uint32
}

// settler answers packets by a function that the test may exchange. It is a
// reader of its own, so that a test can send verdicts that no daemon would.
type settler struct {
	queue *nfqueue.Queue
	file  *os.File // the queue's socket, for the runtime's poller
	stop  func()
	mu    sync.Mutex
	seen  []queued
	ask   func(*queued) answer
}

// settle answers the queue's packets until the test ends.
func settle(t *testing.T, q *nfqueue.Queue, ask func(*queued) answer) *settler {
	t.Helper()
	s := &settler{queue: q, ask: ask}
	nstest.Must(t, fdcontrol.Do(q.File(), func(fd int) error { return unix.SetNonblock(fd, true) }))
	var err error
	s.file, err = fdcontrol.Duplicate(q.File(), "queue of the test")
	nstest.Must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.run() // ends with the runtime's words for a closed file
	}()
	s.stop = sync.OnceFunc(func() {
		nstest.Must(t, s.file.Close())
		<-done
		nstest.Must(t, q.Close())
	})
	t.Cleanup(s.stop)
	return s
}

func (s *settler) run() error {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<17)
	var failed error
	err = raw.Read(func(fd uintptr) (done bool) {
		for {
			n, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			switch {
			case errors.Is(err, unix.EAGAIN):
				return false
			case err != nil:
				failed = err
				return true
			}
			for m, err := range nlsock.Messages(buf[:n]) {
				if err == nil && m.Type == unix.NFNL_SUBSYS_QUEUE<<8 {
					s.answer(int(fd), m.Body[nlsock.NetfilterHeaderLen:])
				}
			}
		}
	})
	return errors.Join(failed, err)
}

// Attributes of a packet and of its verdict (linux/netfilter/nfnetlink_queue.h).
const (
	attrPacketHdr  = 1
	attrVerdictHdr = 2
	attrPayload    = 10
	attrPriority   = 21
)

func parseQueued(b []byte) *queued {
	p := &queued{}
	for len(b) >= unix.SizeofNlAttr {
		length := int(binary.NativeEndian.Uint16(b))
		value := b[unix.SizeofNlAttr:length]
		switch binary.NativeEndian.Uint16(b[2:]) {
		case attrPacketHdr:
			p.ID = binary.BigEndian.Uint32(value)
			p.Direction = map[byte]inspect.Direction{
				unix.NF_INET_LOCAL_IN: inspect.In, unix.NF_INET_LOCAL_OUT: inspect.Out,
				unix.NF_INET_FORWARD: inspect.Forward,
			}[value[6]]
		case attrPayload:
			p.Payload = append([]byte(nil), value...)
		case attrPriority:
			p.priority = binary.BigEndian.Uint32(value)
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return p
}

func (s *settler) answer(fd int, body []byte) {
	p := parseQueued(body)
	s.mu.Lock()
	at := len(s.seen)
	s.seen = append(s.seen, *p)
	ask := s.ask
	s.mu.Unlock()
	a := ask(p)
	verdict := uint32(1) // NF_ACCEPT, also to drop a flow: see hook.Settle
	if a.drop && a.request == 0 {
		verdict = 0
	}
	_, _ = unix.Write(fd, verdictMessage(s.queue.Config().Number, p.ID, verdict,
		p.priority&^hook.SettleMask|a.request))
	s.mu.Lock()
	s.seen[at].answered = true
	s.mu.Unlock()
}

func verdictMessage(queue uint16, id, verdict, priority uint32) []byte {
	const sendVerdict = unix.NFNL_SUBSYS_QUEUE<<8 | 1 // NFQNL_MSG_VERDICT
	b := nlsock.AppendNetfilterHeader(nil, unix.AF_UNSPEC, queue)
	b = binary.NativeEndian.AppendUint16(b, 12)
	b = binary.NativeEndian.AppendUint16(b, attrVerdictHdr)
	b = binary.BigEndian.AppendUint32(b, verdict)
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.NativeEndian.AppendUint16(b, 8)
	b = binary.NativeEndian.AppendUint16(b, attrPriority)
	b = binary.BigEndian.AppendUint32(b, priority)
	return nlsock.Header{Type: sendVerdict, Flags: unix.NLM_F_REQUEST}.Append(nil, b)
}

// change exchanges the function that decides.
func (s *settler) change(ask func(*queued) answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ask = ask
}

// count returns how many packets of the protocol came. Of the last ones the
// kernel may not have the verdict yet.
func (s *settler) count(protocol uint8) int {
	return s.matching(protocol, func(*queued) bool { return true })
}

// answered returns how many packets of the protocol have got their verdict.
func (s *settler) answered(protocol uint8) int {
	return s.matching(protocol, func(p *queued) bool { return p.answered })
}

func (s *settler) matching(protocol uint8, match func(*queued) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for i := range s.seen {
		if flow, ok := s.seen[i].Flow(); ok && flow.Protocol == protocol && match(&s.seen[i]) {
			n++
		}
	}
	return n
}

// always answers every packet of TCP and UDP alike, and accepts others.
func always(a answer) func(*queued) answer {
	return func(p *queued) answer {
		if flow, ok := p.Flow(); ok && flow.Protocol != inspect.ProtoTCP &&
			flow.Protocol != inspect.ProtoUDP {
			return answer{}
		}
		return a
	}
}

// talk is a flow between a UDP socket of the pod and one of the peer.
type talk struct {
	*fixture
	pod, peer *net.UDPConn
}

// talk opens the flow; no packet is sent yet.
func (f *fixture) talk(peer netip.Addr) *talk {
	f.Helper()
	to := f.peer.ListenUDP(f.T, netip.AddrPortFrom(peer, 0).String())
	return &talk{f, f.pod.DialUDP(f.T, to.LocalAddr().String()), to}
}

// out sends n datagrams from the pod and returns how many arrive.
func (k *talk) out(n int) int {
	k.Helper()
	for range n {
		_, _ = k.pod.Write([]byte("out")) // what a hook drops may be an error
	}
	return receive(k.T, k.peer, n)
}

// in sends n datagrams to the pod and returns how many arrive.
func (k *talk) in(n int) int {
	k.Helper()
	for range n {
		_, err := k.peer.WriteTo([]byte("in"), k.pod.LocalAddr())
		nstest.Must(k.T, err)
	}
	return receive(k.T, k.pod, n)
}

// wantBothWays sends a datagram that settles the flow and then others, and expects
// all of them to arrive.
func (k *talk) wantBothWays() {
	k.Helper()
	if k.out(1) != 1 {
		k.Fatalf("the first datagram to %s did not arrive", k.pod.RemoteAddr())
	}
	if out, in := k.out(10), k.in(10); out != 10 || in != 10 {
		k.Errorf("%d datagrams to %s and %d from it of 10 arrived", out, k.pod.RemoteAddr(), in)
	}
}

// nothing expects that no datagram arrives at either end.
func (k *talk) nothing(when string) {
	k.Helper()
	for _, c := range []*net.UDPConn{k.pod, k.peer} {
		nstest.Must(k.T, c.SetReadDeadline(time.Now().Add(nstest.Patient(silence))))
		if _, err := c.Read(make([]byte, 16)); err == nil {
			k.Errorf("a datagram arrived %s", when)
		}
	}
}
