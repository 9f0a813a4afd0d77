// SPDX-License-Identifier: Apache-2.0

//go:build netns

package evasion

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/rules"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// silence is how long it is waited for what must not come.
const silence = 100 * time.Millisecond

// holding runs a test under both lists, which hold what is undecided, with each name. The
// test's clock goes on only when it says so.
func holding(t *testing.T, test func(b *bed, clock *atomic.Int64, name string)) {
	for list, spec := range map[string]string{"deny list": denyList, "allow list": allowList} {
		for _, name := range []string{blockedName, allowedName} {
			t.Run(list+" "+name, func(t *testing.T) {
				clock := new(atomic.Int64)
				clock.Store(int64(time.Hour))
				b := newBedOf(t, rules.Options{
					Rules: compile(t, "\n  undecided: Hold"+spec),
					Now:   func() time.Duration { return time.Duration(clock.Load()) },
				})
				test(b, clock, name)
			})
		}
	}
}

// awaitHeld waits until so many packets were held.
func (b *bed) awaitHeld(n uint64) {
	b.t.Helper()
	nstest.Eventually(b.t, patience, "packets are held", func() bool {
		list, err := b.List(b.t.Context())
		must(b.t, err)
		return list[0].Counters.Deferred >= n
	})
}

// wantSilence expects that nothing has come.
func wantSilence(t *testing.T, c net.Conn) {
	t.Helper()
	must(t, c.SetReadDeadline(time.Now().Add(silence)))
	if n, err := c.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes came of a flow that is not decided, %v", n, err)
	}
	must(t, c.SetReadDeadline(time.Now().Add(nstest.Patient(patience))))
}

// quicPair is a server of QUIC, and a client in the pod.
func (b *bed) quicPair() (server, client *net.UDPConn) {
	b.t.Helper()
	server = b.peer.ListenUDP(b.t, port(b.peer.IPv4(), 443))
	return server, b.pod.DialUDP(b.t, port(b.peer.IPv4(), 443))
}

// hellos are the two datagrams of a client's hello.
func hellos(t *testing.T, name string) [2][]byte {
	a, b := halves(long(name))
	first := initial{dcid: "12345678", frames: a, size: 1200}
	second := initial{dcid: "12345678", number: 1, frames: b, size: 1200}
	return [2][]byte{first.seal(t), second.seal(t)}
}

// Of a hello of QUIC that is refused no datagram reaches the server, and those of one that is
// accepted arrive in their order.
func TestKernelHoldQUIC(t *testing.T) {
	holding(t, func(b *bed, _ *atomic.Int64, name string) {
		server, client := b.quicPair()
		sent := hellos(b.t, name)
		_, err := client.Write(sent[0])
		must(b.t, err)
		b.awaitHeld(1)
		wantSilence(b.t, server)
		_, err = client.Write(sent[1])
		if name == blockedName {
			must(b.t, client.SetReadDeadline(time.Now().Add(nstest.Patient(patience))))
			if _, err := client.Read(make([]byte, 1)); !isRefused(err) {
				b.t.Errorf("the client: %v", err)
			}
			wantSilence(b.t, server)
			return
		}
		must(b.t, err)
		b.wantDatagrams(server, sent[:]...)
	})
}

// wantDatagrams expects these in their order.
func (b *bed) wantDatagrams(server *net.UDPConn, want ...[]byte) {
	b.t.Helper()
	got := make([]byte, 2048)
	for i := range want {
		n, err := server.Read(got)
		if err != nil || !bytes.Equal(got[:n], want[i]) {
			b.t.Fatalf("datagram %d is not the one that was sent, %v", i, err)
		}
	}
}

// Half a hello of QUIC is decided after 50 ms, by what rules say where there is no name.
func TestKernelHoldQUICEnds(t *testing.T) {
	holding(t, func(b *bed, clock *atomic.Int64, name string) {
		server, client := b.quicPair()
		sent := hellos(b.t, name)
		_, err := client.Write(sent[0])
		must(b.t, err)
		b.awaitHeld(1)
		clock.Add(int64(40 * time.Millisecond))
		b.inspector.Tick()
		wantSilence(b.t, server)
		clock.Add(int64(20 * time.Millisecond))
		b.inspector.Tick()
		if b.inspector.Stats().Verdicts["accept"] > 0 {
			b.wantDatagrams(server, sent[0])
			return
		}
		if n := b.inspector.Stats().Verdicts["reject"]; n != 1 {
			b.t.Errorf("%d flows are refused, want 1", n)
		}
		wantSilence(b.t, server)
	})
}
