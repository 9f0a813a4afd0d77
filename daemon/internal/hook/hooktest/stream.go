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
	streams := []*stream{connect(t, pod, peer)}
	readers := make([]*settler, len(hooks))
	for i, h := range hooks {
		f := newFixture(t, h)
		readers[i] = f.armSettling(settling(1), false)
		streams = append(streams, connect(t, f.pod, f.peer))
	}
	rates := make([][]float64, len(streams))
	for round := range streamRounds {
		for i := range streams {
			turn := (i + round) % len(streams)
			rates[turn] = append(rates[turn], streams[turn].rate(t))
		}
	}
	for i, h := range hooks {
		readers[i].want(t, string(h.Kind()), inspect.ProtoTCP, 1)
		t.Logf("cost: TCP, flow settled by %-4s %s of no hook", h.Kind(),
			nstest.Ratio(rates[i+1], rates[0]))
	}
}

// stream is a connection from a pod.
type stream struct {
	from, to net.Conn
	data     []byte
}

func connect(t *testing.T, pod, peer *nstest.NetNS) *stream {
	t.Helper()
	l := peer.ListenTCP(t, netip.AddrPortFrom(peer.IPv4(), 0).String())
	s := &stream{from: pod.DialTCP(t, l.Addr().String()), data: make([]byte, streamSize)}
	var err error
	s.to, err = l.Accept()
	nstest.Must(t, err)
	t.Cleanup(func() { nstest.Must(t, s.to.Close()) })
	return s
}

// rate sends data, and returns how many bytes a second arrived.
func (s *stream) rate(t *testing.T) float64 {
	t.Helper()
	nstest.Must(t, s.to.SetReadDeadline(time.Now().Add(nstest.Patient(time.Minute))))
	began := time.Now()
	sent := make(chan error, 1)
	go func() {
		_, err := s.from.Write(s.data)
		sent <- err
	}()
	_, err := io.CopyN(io.Discard, s.to, streamSize)
	nstest.Must(t, err)
	took := time.Since(began)
	nstest.Must(t, <-sent)
	return streamSize / took.Seconds()
}
