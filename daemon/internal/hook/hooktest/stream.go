// SPDX-License-Identifier: Apache-2.0

package hooktest

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/test/bench/report"
	"github.com/nsqueue/nsqueue/test/nstest"
)

const (
	streamRounds = 15
	streamSize   = 8 << 20 // bytes of a round
)

// Streams prints how fast a connection is whose flow each of the hooks has settled, as a part
// of one without a hook. They take turns, for the machine may do other work. No packet of
// such a connection is queued.
func Streams(t *testing.T, hooks ...hook.Hook) {
	t.Helper()
	pod, peer := nstest.Pair(t)
	streams := []*stream{openStream(t, pod, peer, peer.IPv4())}
	readers := make([]*settler, len(hooks))
	for i, h := range hooks {
		f := newFixture(t, h)
		readers[i] = f.armSettling(settling(1), false)
		streams = append(streams, openStream(t, f.pod, f.peer, f.peer.IPv4()))
	}
	rates := make([]report.Spread, len(streams))
	for round := range streamRounds {
		for i := range streams {
			turn := (i + round) % len(streams)
			rate := streamSize / streams[turn].send(t, streamSize).Seconds()
			rates[turn] = report.SpreadOf(append(rates[turn].Rounds, rate))
		}
	}
	for i, h := range hooks {
		readers[i].want(t, string(h.Kind()), inspect.ProtoTCP, 1)
		t.Logf("cost: TCP, flow settled by %-4s %s of no hook", h.Kind(),
			report.Ratio(rates[i+1], rates[0]))
	}
}

// stream is a connection from a pod.
type stream struct{ from, to net.Conn }

// openStream connects the pod to that address of the peer, until the test ends.
func openStream(t *testing.T, pod, peer *nstest.NetNS, address netip.Addr) *stream {
	t.Helper()
	l := peer.ListenTCP(t, netip.AddrPortFrom(address, 0).String())
	from := pod.DialTCP(t, l.Addr().String())
	to, err := l.Accept()
	nstest.Must(t, err)
	t.Cleanup(func() { nstest.Must(t, to.Close()) })
	return &stream{from, to}
}

// send sends so many bytes, and returns how long it took until all had arrived.
func (s *stream) send(t *testing.T, size int) time.Duration {
	t.Helper()
	nstest.Must(t, s.to.SetReadDeadline(time.Now().Add(nstest.Patient(reply))))
	data := make([]byte, size)
	began := time.Now()
	sent := make(chan error, 1)
	go func() {
		_, err := s.from.Write(data)
		sent <- err
	}()
	_, err := io.CopyN(io.Discard, s.to, int64(size))
	nstest.Must(t, err)
	took := time.Since(began)
	nstest.Must(t, <-sent)
	return took
}
