// SPDX-License-Identifier: Apache-2.0

// Package load sends numbered datagrams at a steady rate and tells afterwards
// which were lost, and which arrived without the stamp of an inspector.
package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/internal/boottime"
)

// A datagram is a number, a stamp, and nothing else.
const (
	Size    = 64
	stampAt = 4
	stamped = 0x5a
)

// Mark is the mark of packets that an inspector has seen which cannot stamp them.
const Mark = 1 << 24

// Stamp marks a datagram as inspected.
func Stamp(b []byte) { b[stampAt] = stamped }

// Flow is the traffic from one socket to another.
type Flow struct {
	// Silence is how long nothing comes after the end of Send before what is missing
	// counts as lost.
	Silence time.Duration
	// Window is how many datagrams may be on their way before Send waits, 0 for any
	// number. A queue that holds so many loses none, for however long a busy machine
	// leaves its reader no processor.
	Window int

	from, to  *net.UDPConn
	rate      int          // datagrams a second
	newest    atomic.Int64 // the highest number that has arrived
	stop      atomic.Bool
	sent      atomic.Uint32
	ended     atomic.Int64 // when Send returned
	arrived   []byte       // by number: how it arrived
	different int          // how many numbers have arrived
	last      atomic.Int64
	longest   atomic.Int64
	recent    atomic.Int64 // the longest since Gap was called
}

// How a datagram arrived.
const (
	never byte = iota
	uninspected
	seen
)

// MaxDatagrams is how many one flow sends at most.
const MaxDatagrams = 4 << 20

// NewFlow prepares a flow. Both sockets stay the caller's.
func NewFlow(from, to *net.UDPConn, rate int) *Flow {
	f := &Flow{
		Silence: silence, from: from, to: to, rate: rate, arrived: make([]byte, MaxDatagrams),
	}
	f.newest.Store(-1)
	return f
}

// QueueHolds is a Window for queues of the default length: it leaves room in them, and
// in the 1,000 packets of a device's backlog.
const QueueHolds = 900

// burst bounds what is sent at a time to catch up. What is measured is the
// reader, not the 1,000 packets of a device's backlog.
const burst = 64

const tick = 300 * time.Microsecond

// probe is how long a full window stops Send: what is on its way may be lost.
const probe = 100 * time.Millisecond

// Send sends until Stop, and then returns.
func (f *Flow) Send() error {
	defer func() { f.ended.Store(int64(boottime.Now())) }()
	var datagram [Size]byte
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	began, base := time.Now(), 0
	written := began
	for n := 0; !f.stop.Load() && n < MaxDatagrams; <-ticker.C {
		due := base + int(time.Since(began).Seconds()*float64(f.rate))
		if due-n > burst {
			began, base = time.Now(), n+burst // no burst for what is late
			due = base
		}
		due = f.allowed(n, due, time.Since(written))
		if n < due {
			written = time.Now()
		}
		for ; n < due; n++ {
			binary.BigEndian.PutUint32(datagram[:], uint32(n))
			if _, err := f.from.Write(datagram[:]); err != nil {
				return fmt.Errorf("send datagram %d: %w", n, err)
			}
		}
		f.sent.Store(uint32(n))
	}
	return nil
}

// allowed returns up to where datagrams from n on may be sent of those that are due, when
// none was for so long.
func (f *Flow) allowed(n, due int, idle time.Duration) int {
	if f.Window == 0 {
		return due
	}
	end := min(due, int(f.newest.Load())+f.Window+1)
	if end <= n && idle >= probe {
		return min(due, n+1)
	}
	return end
}

// Stop ends Send.
func (f *Flow) Stop() { f.stop.Store(true) }

const (
	// look is how often Receive looks whether it is over.
	look = 100 * time.Millisecond
	// silence is long: a busy machine may not let any process of the test run for
	// seconds.
	silence = 10 * time.Second
)

// Receive receives until Send has ended and all that it sent has arrived, or
// nothing more comes.
func (f *Flow) Receive() error {
	f.last.Store(int64(boottime.Now()))
	for !f.over(boottime.Now()) {
		if err := f.to.SetReadDeadline(time.Now().Add(look)); err != nil {
			return err
		}
		if err := f.read(); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return nil
}

// over reports whether nothing more is to be received.
func (f *Flow) over(now time.Duration) bool {
	ended := f.ended.Load()
	if ended == 0 {
		return false
	}
	quiet := now - time.Duration(max(ended, f.last.Load()))
	return f.different == int(f.sent.Load()) || quiet >= f.Silence
}

// read receives for as long as a deadline that is set once allows: setting it
// costs as much as reading.
func (f *Flow) read() error {
	var datagram [2 * Size]byte
	for range 256 {
		n, err := f.to.Read(datagram[:])
		if err != nil {
			return err
		}
		if n == Size {
			f.note(datagram[:n])
		}
	}
	return nil
}

func (f *Flow) note(datagram []byte) {
	now := int64(boottime.Now())
	gap := now - f.last.Swap(now)
	f.longest.Store(max(gap, f.longest.Load()))
	if gap > f.recent.Load() {
		f.recent.Store(gap)
	}
	n := binary.BigEndian.Uint32(datagram)
	if n >= MaxDatagrams {
		return
	}
	if f.arrived[n] == never {
		f.different++
	}
	f.newest.Store(max(f.newest.Load(), int64(n)))
	f.arrived[n] = uninspected
	if datagram[stampAt] == stamped {
		f.arrived[n] = seen
	}
}

// Gap returns the longest time in which nothing arrived since it was called last. Call
// it again when something has arrived: a gap that goes on is not in it.
func (f *Flow) Gap() time.Duration { return time.Duration(f.recent.Swap(0)) }

// Idle returns for how long nothing has arrived.
func (f *Flow) Idle() time.Duration { return boottime.Now() - time.Duration(f.last.Load()) }

// Result is what became of a flow's datagrams.
type Result struct {
	Sent, Lost, Uninspected int
	// Stall is the longest time in which nothing arrived.
	Stall time.Duration
}

// Result is valid when Send and Receive have returned.
func (f *Flow) Result() Result {
	r := Result{Sent: int(f.sent.Load()), Stall: time.Duration(f.longest.Load())}
	for _, how := range f.arrived[:r.Sent] {
		switch how {
		case never:
			r.Lost++
		case uninspected:
			r.Uninspected++
		}
	}
	return r
}

// Add adds up the results of several flows.
func (r *Result) Add(o Result) {
	r.Sent += o.Sent
	r.Lost += o.Lost
	r.Uninspected += o.Uninspected
	r.Stall = max(r.Stall, o.Stall)
}

// String says it in a line.
func (r Result) String() string {
	return fmt.Sprintf("%d sent, %d lost, %d uninspected, longest stall %v",
		r.Sent, r.Lost, r.Uninspected, r.Stall.Round(time.Millisecond))
}
