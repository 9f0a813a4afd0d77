// SPDX-License-Identifier: Apache-2.0

package datapath

import "sync"

// maxClosers is how many sockets are closed at a time. Each blocks a thread, and
// the Go runtime keeps the threads that it has ever needed.
const maxClosers = 4

// closings are sockets that are closed beside their owners, where the kernel
// takes its time.
type closings struct {
	slots chan struct{}

	mu       sync.Mutex
	underway int
	ended    chan struct{} // closed by the next one that ends
}

func newClosings() *closings {
	return &closings{slots: make(chan struct{}, maxClosers), ended: make(chan struct{})}
}

// start has a socket closed in its turn.
func (c *closings) start(socket func()) {
	c.mu.Lock()
	c.underway++
	c.mu.Unlock()
	go func() {
		c.slots <- struct{}{}
		socket()
		<-c.slots
		c.mu.Lock()
		defer c.mu.Unlock()
		c.underway--
		close(c.ended)
		c.ended = make(chan struct{})
	}()
}

// next returns what is closed when one more has ended, nil where none is under
// way.
func (c *closings) next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.underway == 0 {
		return nil
	}
	return c.ended
}

// wait returns when none is under way.
func (c *closings) wait() {
	for ended := c.next(); ended != nil; ended = c.next() {
		<-ended
	}
}
