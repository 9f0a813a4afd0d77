// SPDX-License-Identifier: Apache-2.0

package reject

import (
	"errors"
	"sync"
)

// Untold counts rejected packets of which an end was not told, by why. Any number of
// senders share one, and its zero value is one.
type Untold struct {
	mu     sync.Mutex
	counts UntoldCounts
}

// UntoldCounts are numbers since an [Untold] is there.
type UntoldCounts struct {
	// TooMany were more than are answered in a netns.
	TooMany uint64
	// NoSocket had no socket to be answered by, most lately because of SocketError.
	NoSocket    uint64
	SocketError error
	// Unsent had an answer that the kernel did not take, most lately because of SendError.
	Unsent    uint64
	SendError error
}

// Counts returns the numbers of the moment.
func (u *Untold) Counts() UntoldCounts {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.counts
}

// note counts why an end was not told. Those of a sender that is closed are not counted.
func (u *Untold) note(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := &u.counts
	socket, isSocket := errors.AsType[*socketError](err)
	switch {
	case errors.Is(err, errClosed):
	case errors.Is(err, errTooMany):
		c.TooMany++
	case isSocket:
		c.NoSocket++
		c.SocketError = socket.error
	default:
		c.Unsent++
		c.SendError = err
	}
}

// The errors of packets that are not answered at all.
var (
	errClosed  = errors.New("the sender is closed")
	errTooMany = errors.New("more packets are rejected than are answered")
)

// socketError is why there is no socket.
type socketError struct{ error }
