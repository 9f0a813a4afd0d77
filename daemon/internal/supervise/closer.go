// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"sync"

	"golang.org/x/sys/unix"
)

// closer closes descriptors away from the loop. The last close of a table's
// socket or of a queue's waits for the kernel to be done with what goes with
// it, for 10 to 100 ms; a loop that waits as well would not hear the daemon
// while that detaches many pods.
type closer struct {
	mu      sync.Mutex
	changed sync.Cond
	waiting []int
	working bool // on those that were taken
	closing bool
	routine sync.WaitGroup
	closeFD func(fd int) error
}

func newCloser() *closer {
	c := &closer{closeFD: unix.Close}
	c.changed.L = &c.mu
	c.routine.Go(c.run)
	return c
}

// add has the descriptors closed soon, in their order.
func (c *closer) add(fds ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, fds...)
	c.changed.Signal()
}

// busy reports whether there is something left to close.
func (c *closer) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.working || len(c.waiting) > 0
}

// close returns when all of them are closed.
func (c *closer) close() {
	c.mu.Lock()
	c.closing = true
	c.changed.Signal()
	c.mu.Unlock()
	c.routine.Wait()
}

func (c *closer) run() {
	for {
		fds := c.take()
		if len(fds) == 0 {
			return
		}
		for _, fd := range fds {
			_ = c.closeFD(fd)
		}
	}
}

// take waits for descriptors; none means the end.
func (c *closer) take() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.working = false
	for len(c.waiting) == 0 && !c.closing {
		c.changed.Wait()
	}
	fds := c.waiting
	c.waiting, c.working = nil, len(fds) > 0
	return fds
}
