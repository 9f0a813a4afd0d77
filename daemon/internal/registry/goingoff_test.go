// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/registry"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// dropper drops numbered datagrams and settles their flows by it, and knows
// which.
type dropper struct {
	mu      sync.Mutex
	dropped map[uint32]bool
	hasSome chan struct{}
}

func newDropper() *dropper {
	return &dropper{dropped: make(map[uint32]bool), hasSome: make(chan struct{}, 1)}
}

// Inspect drops and settles.
func (d *dropper) Inspect(p *inspect.Packet) inspect.Verdict {
	flow, ok := p.Flow()
	if !ok || flow.Protocol != inspect.ProtoUDP || len(flow.Transport) != 8+4 {
		return inspect.Verdict{Action: inspect.Accept}
	}
	d.mu.Lock()
	d.dropped[binary.BigEndian.Uint32(flow.Transport[8:])] = true
	d.mu.Unlock()
	select {
	case d.hasSome <- struct{}{}:
	default:
	}
	return inspect.Verdict{Action: inspect.Drop, Settle: true}
}

// A packet whose verdict drops its flow is dropped, whatever goes off meanwhile.
func TestDropWhileSettlingGoesOff(t *testing.T) {
	i := newDropper()
	d := start(t, i)
	d.settle = hook.Settle{Generation: 1, Timeout: time.Minute, Size: 1 << 16}
	d.restart()
	pod, peer := nstest.Pair(t)
	number := uint32(0)
	for name, end := range map[string]func(){
		"detach": func() {
			nstest.Must(t, d.Detach(t.Context(), request("one", pod, api.Ignore).Key))
		},
		"detach all": func() {
			_, err := d.DetachAll(t.Context())
			nstest.Must(t, err)
		},
		"exit": func() {
			d.restart()
			nstest.Must(t, d.Detach(t.Context(), request("one", pod, api.Ignore).Key))
		},
	} {
		for range 10 {
			d.attach("one", pod, api.Ignore)
			number = i.testEnd(t, name, pod, peer, number, end)
		}
	}
}

// testEnd ends inspection while numbered datagrams are being sent, each of a flow
// of its own, and expects none that the inspector dropped. It returns the next
// number.
func (d *dropper) testEnd(
	t *testing.T, name string, pod, peer *nstest.NetNS, number uint32, end func(),
) uint32 {
	t.Helper()
	to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String())
	received := make(chan map[uint32]bool)
	go func() { received <- numbers(to) }()
	stop := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			from := pod.DialUDP(t, to.LocalAddr().String())
			_, _ = from.Write(binary.BigEndian.AppendUint32(nil, number)) // the hook may drop it
			_ = from.Close()
			number++
		}
	})
	<-d.hasSome
	<-d.hasSome
	began := time.Now()
	end()
	took := time.Since(began)
	close(stop)
	sender.Wait()
	nstest.Must(t, to.SetReadDeadline(time.Now().Add(silence)))
	arrived := <-received
	nstest.Must(t, to.Close())
	if took >= registry.DrainLimit { // some may have got the policy's verdict first
		return number
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for n := range arrived {
		if d.dropped[n] {
			t.Errorf("%s: datagram %d arrived, which the inspector dropped", name, n)
		}
	}
	return number
}

// numbers returns what arrives until the deadline.
func numbers(c interface{ Read([]byte) (int, error) }) map[uint32]bool {
	all := make(map[uint32]bool)
	buf := make([]byte, 16)
	for {
		n, err := c.Read(buf)
		switch {
		case err != nil:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
			return all
		case n == 4:
			all[binary.BigEndian.Uint32(buf)] = true
		}
	}
}
