// SPDX-License-Identifier: Apache-2.0

package load

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// TestFlow has every datagram of a flow arrive, whenever the receiver reads it.
func TestFlow(t *testing.T) {
	to, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	from, err := net.DialUDP("udp4", nil, to.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	f := NewFlow(from, to, 1000)
	errs := make([]error, 2)
	var running sync.WaitGroup
	running.Go(func() { errs[0] = f.Send() })
	running.Go(func() { errs[1] = f.Receive() })
	const datagrams = 100
	nstest.Eventually(t, time.Minute, "datagrams", func() bool { return f.sent.Load() > datagrams })
	f.Stop()
	running.Wait()
	r := f.Result()
	if errs[0] != nil || errs[1] != nil || r.Lost != 0 || r.Uninspected != r.Sent {
		t.Errorf("%v, errors %v; want none lost, and no stamps", r, errs)
	}
}

// TestWindow: no more datagrams than the window are on their way.
func TestWindow(t *testing.T) {
	const window = 50
	f := NewFlow(nil, nil, 1000)
	f.Window = window
	hasRoom := func(n int) bool { return f.allowed(n, n+1, 0) > n }
	for n, want := range map[int]bool{0: true, window - 1: true, window: false} {
		if got := hasRoom(n); got != want {
			t.Errorf("room for datagram %d: %v, want %v", n, got, want)
		}
	}
	var datagram [Size]byte
	f.note(datagram[:])
	if !hasRoom(window) || hasRoom(window+1) {
		t.Error("the window does not follow what has arrived")
	}
	if f.Window = 0; !hasRoom(3 * window) {
		t.Error("a flow without a window waits")
	}
	f.Window = window
	if n, due := window+1, window+9; f.allowed(n, due, probe) != n+1 || f.allowed(n, due, probe-1) > n {
		t.Error("a full window stops a flow for ever, or not at all")
	}
}

// TestOver: what is missing is lost only when nothing has come for long since
// the sender has ended.
func TestOver(t *testing.T) {
	const ended, later = time.Hour, time.Hour + silence/2
	for _, tt := range []struct {
		name             string
		ended, last, now time.Duration
		arrived          int
		want             bool
	}{
		{"sends still", 0, ended, ended + time.Hour, 10, false},
		{"all arrived", ended, ended, ended, 10, true},
		{"one is missing", ended, ended, later, 9, false},
		{"one is missing for long", ended, 0, ended + silence, 9, true},
		{"others come late", ended, later, ended + silence, 9, false},
		{"no more come", ended, later, later + silence, 9, true},
		{"stood still before the end", ended, time.Minute, later, 9, false},
	} {
		f := &Flow{Silence: silence, different: tt.arrived}
		f.sent.Store(10)
		f.ended.Store(int64(tt.ended))
		f.last.Store(int64(tt.last))
		if got := f.over(tt.now); got != tt.want {
			t.Errorf("%s: over %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestStream has a stream stand still and go on.
func TestStream(t *testing.T) {
	from, to := net.Pipe()
	defer to.Close()
	s := NewStream(from, to, 1<<20)
	var sent, received error
	var running sync.WaitGroup
	running.Go(func() { sent = s.Send() })
	nstest.Must(t, func() error {
		_, err := to.Read(make([]byte, 1))
		return err
	}())
	began := time.Now()
	const stall = 10 * time.Millisecond
	nstest.Eventually(t, time.Minute, "time passes", func() bool { return time.Since(began) > stall })
	running.Go(func() { received = s.Receive() })
	nstest.Eventually(t, time.Minute, "data", func() bool { return s.Stall() > 0 })
	s.Stop()
	running.Wait()
	if sent != nil || received != nil || s.Lost() != 1 {
		t.Errorf("%d bytes lost, errors %v, %v; want the one that was read beside", s.Lost(), sent, received)
	}
}
