// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"time"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/kernel"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// Program is another program that reads queues of the netns.
type Program struct {
	// Queue is the number of its first queue, and Queues how many it has.
	Queue, Queues uint16
	// Direct has the hook send all packets to the program, past the inspector.
	Direct bool
	// Accepts says whether packets pass while the program is away, in a netns whose
	// packets pass (failOpen) when they cannot be inspected, or are dropped.
	Accepts func(failOpen bool) bool
}

// LeftProgram is a program of which an earlier process has said whether packets go to it.
type LeftProgram struct {
	Program
	Open bool
}

// programPath is how packets get to a program.
type programPath struct {
	Program
	open   bool
	copies map[uint16]*nfqueue.Copy
}

func (p *programPath) has(number uint16) bool {
	return number >= p.Queue && number-p.Queue < p.Queues
}

// AddProgram says that there will be a program. Packets go to it when OpenProgram says so,
// or where it is open: an earlier process has said so, and there is its socket still.
func (d *Datapath) AddProgram(p Program, open bool) {
	path := &programPath{Program: p, open: open, copies: make(map[uint16]*nfqueue.Copy)}
	d.programs = append(d.programs, path)
	d.setAway()
}

// RemoveProgram says that there is none any more, after CloseProgram.
func (d *Datapath) RemoveProgram(queue uint16) {
	for i, p := range d.programs {
		if p.Queue == queue {
			d.programs = append(d.programs[:i:i], d.programs[i+1:]...)
			break
		}
	}
	d.setAway()
}

// program returns the path of a program, nil for none.
func (d *Datapath) program(queue uint16) *programPath {
	for _, p := range d.programs {
		if p.Queue == queue {
			return p
		}
	}
	return nil
}

// setAway tells all readers to which programs nothing goes.
func (d *Datapath) setAway() {
	list := d.away()
	for _, q := range d.queues {
		q.reader.SetAway(list)
	}
}

func (d *Datapath) away() []nfqueue.Away {
	var list []nfqueue.Away
	for _, p := range d.programs {
		for i := range p.Queues {
			if !p.open {
				list = append(list, nfqueue.Away{
					Queue: p.Queue + i, Accept: p.Accepts(d.selector.Bypass),
				})
			}
		}
	}
	return list
}

// OpenProgram has packets go to a program, which reads its queues. It takes the copies
// over; after an error they are the caller's.
func (d *Datapath) OpenProgram(queue uint16, copies []*nfqueue.Copy) error {
	p := d.program(queue)
	if p == nil {
		return fmt.Errorf("no program reads queue %d here", queue)
	}
	for _, c := range copies {
		err := c.Room(d.factory.options.Queue.Length, d.factory.options.Queue.ReceiveBuffer,
			d.selector.Bypass)
		if err != nil {
			return err
		}
	}
	for _, c := range copies {
		if err := d.keepCopy(p, c); err != nil {
			return err
		}
	}
	p.open = true
	d.setAway()
	return d.redirect(p)
}

// keepCopy keeps a copy, unless there is the same one.
func (d *Datapath) keepCopy(p *programPath, c *nfqueue.Copy) error {
	if have := p.copies[c.Number()]; have != nil {
		if have.SameSocket(c) {
			return c.Close()
		}
		if err := errors.Join(d.stored.removeProgram(c.Number()), have.Close()); err != nil {
			return err
		}
	}
	if err := d.stored.addTo(programSlot(c), c.File()); err != nil {
		return err
	}
	p.copies[c.Number()] = c
	return nil
}

// CloseProgram has no packets go to a program any more when it returns. Those that wait
// there get their verdict, and it returns how many they were. Another program can bind the
// queues then.
func (d *Datapath) CloseProgram(queue uint16) (answered int, err error) {
	p := d.program(queue)
	if p == nil {
		return 0, nil
	}
	p.open = false
	d.setAway()
	err = d.redirect(p)
	if p.Direct && err == nil {
		err = kernel.GracePeriod() // packets on their way there
	}
	accept := p.Accepts(d.selector.Bypass)
	n, e := d.endCopies(p, func(c *nfqueue.Copy, deadline time.Time) (int, error) {
		return c.AnswerAll(d.ns, accept, deadline)
	})
	return n, errors.Join(err, e)
}

// endCopies answers what waits in the queues of a program, and removes them.
func (d *Datapath) endCopies(
	p *programPath, answer func(c *nfqueue.Copy, deadline time.Time) (int, error),
) (answered int, err error) {
	deadline := time.Now().Add(DrainLimit)
	var errs []error
	for number, c := range p.copies {
		n, err := answer(c, deadline)
		answered += n
		errs = append(errs, err, c.Unbind(), d.stored.removeProgram(number), c.Close())
	}
	clear(p.copies)
	return answered, errors.Join(errs...)
}

// drainPrograms returns when the programs have answered what waits for them. What they
// have not by the deadline gets its verdict. Nothing may come any more.
func (d *Datapath) drainPrograms() error {
	var errs []error
	for _, p := range d.programs {
		accept := p.Accepts(d.selector.Bypass)
		_, err := d.endCopies(p, func(c *nfqueue.Copy, deadline time.Time) (int, error) {
			err := c.AwaitEmpty(d.ns, deadline)
			n, e := c.AnswerAll(d.ns, accept, deadline.Add(DrainLimit))
			return n, errors.Join(err, e)
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// closeCopies closes ours, which changes nothing where the store has others.
func (d *Datapath) closeCopies() error {
	var errs []error
	for _, p := range d.programs {
		for _, c := range p.copies {
			errs = append(errs, c.Close())
		}
		clear(p.copies)
	}
	return errors.Join(errs...)
}

// redirect has the hook send packets to where they are to go now.
func (d *Datapath) redirect(p *programPath) error {
	if !p.Direct || d.handle == nil {
		return nil
	}
	return d.arm(d.selector)
}

// armed is the selector that the hook has: of a program that is direct it names the queues,
// and settles nothing.
func (d *Datapath) armed(s hook.Selector) hook.Selector {
	for _, p := range d.programs {
		if p.Direct && p.open {
			s.Queue, s.Queues, s.Settle = p.Queue, p.Queues, hook.Settle{}
		}
	}
	return s
}

// inheritPrograms takes over copies of an earlier process. Those of programs that there
// are no more are answered and removed.
func (d *Datapath) inheritPrograms() error {
	var errs []error
	for number, f := range d.inherited.programs {
		delete(d.inherited.programs, number)
		c, err := nfqueue.NewCopy(f, number)
		if err != nil {
			errs = append(errs, err, f.Close())
			continue
		}
		d.stored.noteIn(programSlot(c), f)
		if p := d.programOf(number); p != nil {
			p.copies[number] = c
			continue
		}
		errs = append(errs, d.endUnknown(c))
	}
	return errors.Join(errs...)
}

func (d *Datapath) programOf(number uint16) *programPath {
	for _, p := range d.programs {
		if p.has(number) {
			return p
		}
	}
	return nil
}

// endUnknown ends the queue of a program that is not configured any more.
func (d *Datapath) endUnknown(c *nfqueue.Copy) error {
	_, err := c.AnswerAll(d.ns, d.selector.Bypass, time.Now().Add(DrainLimit))
	return errors.Join(err, c.Unbind(), d.stored.removeProgram(c.Number()), c.Close())
}

// programQueues returns how many of the queues are those of programs that are open.
func (d *Datapath) programQueues(stats []nfqueue.Stat) int {
	n := 0
	for _, p := range d.programs {
		for _, c := range p.copies {
			if _, bound := c.StatIn(stats); bound {
				n++
			}
		}
	}
	return n
}

// setProgramRoom has queues of programs that are full accept packets, or drop them.
func (d *Datapath) setProgramRoom() error {
	var errs []error
	o := &d.factory.options.Queue
	for _, p := range d.programs {
		for _, c := range p.copies {
			errs = append(errs, c.Room(o.Length, o.ReceiveBuffer, d.selector.Bypass))
		}
	}
	return errors.Join(errs...)
}
