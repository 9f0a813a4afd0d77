// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"errors"
	"os"
	"sync"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/program"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// Lender gives sockets to an inspector that runs already, in place of a program that is
// started.
type Lender interface {
	// Lend gives it a socket by which it is to bind a queue of an attachment. The socket
	// stays the caller's. [ErrAway] is in the chain of the error where it is not connected.
	Lend(a *inspect.Attachment, socket *os.File) (Loan, error)
	// Away returns nil where it is connected, or what is closed when it connects.
	Away() <-chan struct{}
}

// Loan is a socket that an inspector has.
type Loan interface {
	// PID is the inspector's process.
	PID() int
	// Ended is closed when the inspector is gone.
	Ended() <-chan struct{}
	// Return tells the inspector that the socket is not read any more. It may be called
	// again.
	Return()
}

// ErrAway is that no inspector is connected.
var ErrAway = errors.New("no inspector is connected")

// lent is an inspector that has a socket of the keeper's.
type lent struct {
	keeper *Keeper
	loan   Loan
	copy   *nfqueue.Copy
	back   chan struct{} // closed when the socket is taken back, or left to the inspector
	once   sync.Once     // closes back
}

// lend opens a socket in the netns, and gives it to the inspector. Each time it is another
// one: what the one before had does not come to its successor.
func (k *Keeper) lend() (worker, error) {
	if k.arrival = k.config.Lender.Away(); k.arrival != nil {
		return nil, ErrAway
	}
	c, err := nfqueue.OpenCopy(k.ns, k.config.Spec.Queue)
	if err != nil {
		return nil, err
	}
	loan, err := k.config.Lender.Lend(k.label, c.File())
	if err != nil {
		k.arrival = k.config.Lender.Away()
		return nil, errors.Join(err, c.Close())
	}
	return &lent{keeper: k, loan: loan, copy: c, back: make(chan struct{})}, nil
}

// takeBack ends what an earlier daemon has lent: its connection has ended.
func (k *Keeper) takeBack(left *state.Program) {
	if left == nil {
		return
	}
	k.closePath("read the queue for an earlier nsqueued")
}

func (l *lent) pid() int    { return l.loan.PID() }
func (*lent) start() uint64 { return 0 }

// find returns a copy when the inspector has bound the queue by the socket that it has.
func (l *lent) find() (b program.Binding, err error) {
	stats, err := nfqueue.Stats(l.keeper.ns)
	if err != nil {
		return b, err
	}
	if s, ok := l.copy.StatIn(stats); ok && s.Whole {
		c, err := l.copy.Duplicate()
		if err == nil {
			b.Copies = append(b.Copies, c)
		}
		return b, err
	}
	for _, s := range stats {
		switch {
		case l.copy.Holds(&s) && s.Number != l.copy.Number():
			b.Others = append(b.Others, s.Number)
		case !l.copy.Holds(&s) && s.Number == l.copy.Number():
			b.Foreign = true
		}
	}
	return b, nil
}

func (l *lent) wait() string {
	select {
	case <-l.back:
		return "has its socket no longer"
	case <-l.loan.Ended():
		return "has closed its connection"
	}
}

// terminate takes the socket back.
func (l *lent) terminate() error {
	l.loan.Return()
	l.endWait()
	return nil
}

func (l *lent) kill() error     { return l.terminate() }
func (*lent) end() error        { return nil }
func (*lent) adopted() *os.File { return nil }

// close leaves the socket to the inspector.
func (l *lent) close() error {
	l.endWait()
	return l.copy.Close()
}

func (l *lent) endWait() { l.once.Do(func() { close(l.back) }) }
