// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// Needs are what the packets of one label need of the kernel.
type Needs struct {
	// CopyRange is how many bytes of each packet are copied; 0 means as many as the
	// factory's queues copy.
	CopyRange uint32
	// Settles says whether flows may be settled.
	Settles bool
	// SocketUID says whether the kernel tells whose socket a packet comes from.
	SocketUID bool
}

// askNeeds asks for the needs of now.
func (d *Datapath) askNeeds() Needs {
	needs := Needs{Settles: true, SocketUID: d.factory.options.Queue.SocketUID}
	if ask := d.factory.options.Needs; ask != nil {
		needs = ask(d.life.label)
	}
	if needs.CopyRange == 0 {
		needs.CopyRange = d.factory.options.Queue.CopyRange
	}
	return needs
}

// Label returns the one whose packets come, nil before Begin.
func (d *Datapath) Label() *inspect.Attachment {
	if d.life == nil {
		return nil
	}
	return d.life.label
}

// Widen has the queues tell of packets what they need now or have needed so far, whichever
// is more, and reports whether that is more than before. Those that wait stay as they are.
func (d *Datapath) Widen() (wider bool, err error) {
	now, before := d.askNeeds(), d.needs
	longest := max(now.CopyRange, before.CopyRange)
	told := now.SocketUID || before.SocketUID
	if longest == before.CopyRange && told == before.SocketUID {
		return false, nil
	}
	return true, errors.Join(d.setCopyRange(longest), d.setSocketUID(told))
}

// AwaitAnswers returns when all packets that have come by now have their verdicts, or at
// the deadline. Packets may come meanwhile.
func (d *Datapath) AwaitAnswers(at netns.Place, deadline time.Time) error {
	for _, q := range d.queues {
		if err := q.awaitAnswers(at, deadline); err != nil {
			return err
		}
	}
	return nil
}

// Adapt has the queues tell what packets need now, and flows settled by s, if they may
// be. Where s has another generation than before, the kernel has all settled flows
// inspected again. It changes nothing where settling has ended for good.
func (d *Datapath) Adapt(s hook.Settle) error {
	needs := d.askNeeds()
	err := errors.Join(d.setCopyRange(needs.CopyRange), d.setSocketUID(needs.SocketUID))
	d.needs.Settles = needs.Settles
	if d.handle == nil { // Up arms
		return err
	}
	return errors.Join(err, d.Rearm(s))
}

func (d *Datapath) setCopyRange(n uint32) error {
	if n == d.needs.CopyRange {
		return nil
	}
	var errs []error
	for _, q := range d.queues {
		errs = append(errs, q.queue.SetCopyRange(n))
	}
	err := errors.Join(errs...)
	if err == nil {
		d.needs.CopyRange = n
	}
	return err
}

func (d *Datapath) setSocketUID(on bool) error {
	if on == d.needs.SocketUID {
		return nil
	}
	var errs []error
	for _, q := range d.queues {
		errs = append(errs, q.queue.SetSocketUID(on))
	}
	err := errors.Join(errs...)
	if err == nil {
		d.needs.SocketUID = on
	}
	return err
}

// awaitAnswers is AwaitAnswers for one queue.
func (q *queueReader) awaitAnswers(at netns.Place, deadline time.Time) error {
	stat, bound, err := q.queue.Stat(at)
	newest := stat.Sequence
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for ; ; <-poll.C {
		if err != nil || !bound || stat.Waiting == 0 || q.reader.Answered(newest) ||
			time.Now().After(deadline) {
			return err
		}
		stat, bound, err = q.queue.Stat(at)
	}
}
