// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"errors"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxEvents = 64
	// hotFor is how long after the last packet a poller goes on waiting without
	// the Go scheduler's knowledge. It is less than the 10 ms after which the
	// runtime interrupts a goroutine that keeps a processor.
	hotFor = int64(5 * time.Millisecond)
)

// waiter waits for packets. For a while after some have come, and while queues get
// their turns by the clock, it waits hot: without telling the Go scheduler, whose
// bookkeeping for a thread that sleeps is not cheap (a round trip at 1,000 a second:
// 62 µs, else 68). One of the runtime's processors is kept meanwhile, so that a hot
// wait needs one of the HotWaits. A cold wait is one that the scheduler knows of.
type waiter struct {
	epoll    int
	hotWaits HotWaits
	holds    bool // one of hotWaits
	// cold is true during a cold wait.
	cold     atomic.Bool
	awake    func() // called at its end
	hotUntil int64
	clock    clock
	events   [maxEvents]unix.EpollEvent
	timeout  unix.Timespec
}

// HotWaits limit how many goroutines at a time wait in the kernel without the Go
// scheduler's knowledge, each of which keeps one of the runtime's processors.
// Where all processors were kept, other goroutines would have none for so long
// (an attach call beside two busy queues, on two processors: 23 ms, else 3).
type HotWaits chan struct{}

// NewHotWaits allows n goroutines to wait so.
func NewHotWaits(n int) HotWaits { return make(HotWaits, n) }

func (h HotWaits) acquire() bool {
	select {
	case h <- struct{}{}:
		return true
	default:
		return false
	}
}

func (h HotWaits) release() { <-h }

func newWaiter(epoll int, o *PollerOptions) waiter {
	return waiter{epoll: epoll, hotWaits: o.HotWaits, awake: o.Awake, clock: newClock()}
}

// instant is the clock's time in nanoseconds.
func (w *waiter) instant() int64 { return int64(w.clock()) }

// stayHot is called when a packet has come.
func (w *waiter) stayHot(now int64) { w.hotUntil = now + hotFor }

// wait returns what is ready, nothing when due has come; 0 means that no such
// time is set.
func (w *waiter) wait(due int64) ([]unix.EpollEvent, error) {
	for {
		limit := due
		if due == 0 {
			limit = w.hotUntil
		}
		left := limit - w.instant()
		if due == 0 && left <= 0 {
			return w.waitCold()
		}
		n, err := w.waitHot(max(left, 0))
		if err != nil || n > 0 || due != 0 && w.instant() >= due {
			return w.events[:n], err
		}
	}
}

// waitHot waits for at most limit nanoseconds.
func (w *waiter) waitHot(limit int64) (int, error) {
	w.timeout = unix.NsecToTimespec(limit)
	events, timeout := unsafe.Pointer(&w.events[0]), unsafe.Pointer(&w.timeout)
	var n uintptr
	var errno unix.Errno
	if w.holds = w.holds || w.hotWaits.acquire(); w.holds {
		n, _, errno = unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(w.epoll),
			uintptr(events), maxEvents, uintptr(timeout), 0, 0)
	} else {
		n, _, errno = unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(w.epoll),
			uintptr(events), maxEvents, uintptr(timeout), 0, 0)
	}
	switch errno {
	case 0:
		return int(n), nil
	case unix.EINTR: // the runtime wants the goroutine to stop for a moment
		return 0, nil
	}
	return 0, os.NewSyscallError("epoll_pwait2", errno)
}

func (w *waiter) waitCold() ([]unix.EpollEvent, error) {
	if w.holds {
		w.hotWaits.release()
		w.holds = false
	}
	w.cold.Store(true)
	for {
		n, err := unix.EpollWait(w.epoll, w.events[:], -1)
		switch {
		case err == nil:
			w.cold.Store(false)
			if w.awake != nil {
				w.awake()
			}
			return w.events[:n], nil
		case !errors.Is(err, unix.EINTR):
			return nil, os.NewSyscallError("epoll_wait", err)
		}
	}
}
