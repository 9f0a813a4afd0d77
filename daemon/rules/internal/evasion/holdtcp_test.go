// SPDX-License-Identifier: Apache-2.0

//go:build netns

package evasion

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// quiet is longer than pieces are held while no other comes.
const quiet = 25 * time.Millisecond

// heldPair is a connection of which a program of the pod is the client.
type heldPair struct {
	*bed
	client, server *net.TCPConn
}

func (b *bed) heldPair() *heldPair {
	b.t.Helper()
	s := b.serve(b.peer, port(b.peer.IPv4(), 0))
	p := &heldPair{bed: b, client: b.pod.DialTCP(b.t, s.addr())}
	p.server = <-s.conn
	b.t.Cleanup(func() { _ = p.server.Close() })
	for _, c := range []*net.TCPConn{p.client, p.server} {
		must(b.t, c.SetDeadline(time.Now().Add(nstest.Patient(patience))))
	}
	return p
}

func (p *heldPair) say(b []byte) {
	p.t.Helper()
	_, err := p.client.Write(b)
	must(p.t, err)
}

// wantSaid expects that the server gets what was said, or, if the name is blocked, no more of
// it than so much, and that both ends are told.
func (p *heldPair) wantSaid(said []byte, most int, name string) {
	p.t.Helper()
	got, err := io.ReadAll(io.LimitReader(p.server, int64(len(said))))
	if name == blockedName {
		if len(got) > most || !isRefused(err) {
			p.t.Errorf("the server of %s got %d bytes, want at most %d, and %v", name, len(got), most, err)
		}
		if _, err := p.client.Read(make([]byte, 1)); !isRefused(err) {
			p.t.Errorf("the client of %s: %v", name, err)
		}
		return
	}
	if err != nil || !bytes.Equal(got, said) {
		p.t.Errorf("the server of %s got %d of %d bytes, %v", name, len(got), len(said), err)
	}
	_, err = p.server.Write([]byte("hello"))
	must(p.t, err)
	_, err = io.ReadFull(p.client, make([]byte, 5))
	must(p.t, err)
}

// Of a hello that is refused nothing reaches the server, which is told, and one that is
// accepted arrives as it was sent.
func TestKernelHold(t *testing.T) {
	holding(t, func(b *bed, _ *atomic.Int64, name string) {
		must(b.t, b.pod.Try(func() error { return nstest.Sysctl("net/ipv4/tcp_autocorking", "0") }))
		p := b.heldPair()
		hello := record(long(name))
		// After a slow handshake a kernel sends a piece while what waits is less than twice as
		// large (TCP small queues): the last one is larger than both that are held.
		small := len(hello) / 10
		for i := range 2 {
			p.say(hello[i*small : (i+1)*small])
			b.awaitHeld(uint64(i + 1))
		}
		wantSilence(b.t, p.server)
		p.say(hello[2*small:])
		p.wantSaid(hello, 0, name)
	})
}

// A kernel that sends nothing more while pieces wait gets on when they go on.
func TestKernelHoldPieces(t *testing.T) {
	for mode, noDelay := range map[string]bool{"TCP_NODELAY": true, "Nagle": false} {
		t.Run(mode, func(t *testing.T) {
			holding(t, func(b *bed, clock *atomic.Int64, name string) {
				p := b.heldPair()
				must(b.t, p.client.SetNoDelay(noDelay))
				hello := record(long(name))
				for _, piece := range slices.Collect(slices.Chunk(hello, 100)) {
					p.say(piece)
				}
				b.awaitHeld(1)
				b.goOn(clock)
				p.wantSaid(hello, len(hello)-1, name)
			})
		})
	}
}

// goOn has what is held go on.
func (b *bed) goOn(clock *atomic.Int64) {
	clock.Add(int64(quiet))
	b.inspector.Tick()
}

// A client that writes a piece when the one before has arrived gets through, too. Of what is
// refused the server has all but the last piece.
func TestKernelHoldSlowPieces(t *testing.T) {
	for pieces, size := range map[string]int{"bytes": 1, "100 bytes": 100} {
		t.Run(pieces, func(t *testing.T) {
			holding(t, func(b *bed, clock *atomic.Int64, name string) {
				p := b.heldPair()
				hello := record(helloOf(name))
				if size > 1 {
					hello = record(long(name))
				}
				last := (len(hello) - 1) / size * size
				for piece := range slices.Chunk(hello[:last], size) {
					p.say(piece)
					p.arrives(clock, piece)
				}
				p.say(hello[last:])
				p.wantSaid(hello[last:], 0, name)
			})
		})
	}
}

// arrives has what is held go on until the server has a piece.
func (p *heldPair) arrives(clock *atomic.Int64, piece []byte) {
	p.t.Helper()
	got := make([]byte, 0, len(piece))
	nstest.Eventually(p.t, patience, "a piece arrives", func() bool {
		must(p.t, p.server.SetReadDeadline(time.Now().Add(time.Millisecond)))
		n, err := p.server.Read(got[len(got):cap(got)])
		if got = got[:len(got)+n]; n == 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
			p.t.Fatal(err)
		}
		p.goOn(clock)
		return len(got) == len(piece)
	})
	must(p.t, p.server.SetReadDeadline(time.Now().Add(nstest.Patient(patience))))
	if !bytes.Equal(got, piece) {
		p.t.Errorf("%q arrives, want %q", got, piece)
	}
}

// Of more than 2 KiB nothing arrives before the decision, and the client repeats it.
func TestKernelHoldDrops(t *testing.T) {
	holding(t, func(b *bed, clock *atomic.Int64, name string) {
		p := b.heldPair()
		hello := record(hello(serverName(hostName(name)), extension(21, make([]byte, 5000))))
		p.say(hello[:3000])
		b.awaitHeld(1)
		b.goOn(clock)
		wantSilence(b.t, p.server)
		p.say(hello[3000:])
		p.wantSaid(hello, 0, name)
	})
}

// Half a hello is decided after 10 s, by what rules say where there is no name.
func TestKernelHoldEnds(t *testing.T) {
	holding(t, func(b *bed, clock *atomic.Int64, name string) {
		p := b.heldPair()
		half := record(long(name))[:200]
		p.say(half)
		b.awaitHeld(1)
		clock.Add(int64(11 * time.Second))
		b.inspector.Tick()
		name = allowedName
		if b.inspector.Stats().Verdicts["reject"] > 0 {
			name = blockedName
		}
		p.wantSaid(half, 0, name)
	})
}
