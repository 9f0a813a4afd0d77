// SPDX-License-Identifier: Apache-2.0

package hooktest

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// goingOff are the ways in which requests lose their meaning.
func (f *fixture) goingOff() map[string]func() error {
	armIn := func(s hook.Selector, directions hook.Directions) func() error {
		s.Directions = directions
		return func() error { return arm(f.handle, s) }
	}
	return map[string]func() error{
		"disarmed":           f.handle.Disarm,
		"settling off":       armIn(all(), hook.AllDirections),
		"settling off, in":   armIn(all(), hook.In),
		"another generation": armIn(settling(2), hook.AllDirections),
		"in":                 armIn(settling(1), hook.In),
		"out":                armIn(settling(1), hook.Out),
		"forward":            armIn(settling(1), hook.Forward),
		"disarmed, then armed without settling": func() error {
			if err := f.handle.Disarm(); err != nil {
				return err
			}
			return arm(f.handle, all())
		},
	}
}

func testGoingOff(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	for how, change := range f.goingOff() {
		for _, peer := range f.addresses() {
			f.arm(all()) // with the next line, no flow is settled
			f.arm(settling(1))
			f.testDropHeeded(how, peer, change)
		}
	}
}

const (
	toDrop   = "to drop"
	toAccept = "to accept"
)

// testDropHeeded has packets wait in both directions while something changes,
// and answers them as under generation 1 then.
func (f *fixture) testDropHeeded(how string, peer netip.Addr, change func() error) {
	f.Helper()
	q := bind(f.T, f.ns, queueNumber)
	k := f.talk(peer)
	for _, payload := range []string{toDrop, toAccept} {
		_, err := k.pod.Write([]byte(payload))
		nstest.Must(f.T, err)
		_, err = k.peer.WriteTo([]byte(payload), k.pod.LocalAddr())
		nstest.Must(f.T, err)
	}
	nstest.Must(f.T, change())
	s := settle(f.T, q, func(p *queued) answer {
		drop := bytes.HasSuffix(p.Payload, []byte(toDrop))
		return answer{drop: drop, request: settling(1).Settle.Request(drop)}
	})
	nstest.Eventually(f.T, reply, "all verdicts", func() bool {
		return s.answered(inspect.ProtoUDP) == 4
	})
	buf := make([]byte, 16)
	for _, c := range []interface {
		Read([]byte) (int, error)
		SetReadDeadline(time.Time) error
	}{k.pod, k.peer} {
		nstest.Must(f.T, c.SetReadDeadline(time.Now().Add(nstest.Patient(reply))))
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != toAccept {
			f.Errorf("%s: got %q, %v, want %q", how, buf[:n], err, toAccept)
		}
	}
	s.stop()
}

func testGoneOff(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	s := settle(t, bind(t, f.ns, queueNumber), always(answer{}))
	for how, change := range f.goingOff() {
		f.arm(settling(1))
		nstest.Must(t, change())
		for _, drop := range []bool{false, true} {
			to := f.peer.ListenUDP(t, netip.AddrPortFrom(f.peer.IPv4(), 0).String())
			k := &talk{f, f.pod.DialUDP(t, to.LocalAddr().String(),
				priority(settling(1).Settle.Request(drop))), to}
			if out, in := k.out(3), k.in(3); out != 3 || in != 3 {
				t.Errorf("%s: %d datagrams out and %d in of 3 arrived", how, out, in)
			}
		}
		c, err := f.handle.Counters()
		nstest.Must(t, err)
		if c.Settled != 0 {
			t.Errorf("%s: %d packets of settled flows", how, c.Settled)
		}
	}
	s.stop()
}
