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
// or where it is open: an earlier process has said so, and there is its socket still. One
// that was added stays as it is.
func (d *Datapath) AddProgram(p Program, open bool) {
	if d.program(p.Queue) != nil {
		return
	}
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
// over; after an error they are the caller's, and no packets go there.
func (d *Datapath) OpenProgram(queue uint16, copies []*nfqueue.Copy) error {
	p := d.program(queue)
	if p == nil {
		return fmt.Errorf("no program reads queue %d here", queue)
	}
	err := d.keepCopies(p, copies)
	if err == nil {
		err = d.setOpen(p, true)
	}
	if err != nil {
		return errors.Join(err, d.undoOpen(p, copies))
	}
	for _, c := range copies {
		if p.copies[c.Number()] != c {
			_ = c.Close() // there was one of the same socket
		}
	}
	return nil
}

// undoOpen has no packets go to a program, and keeps none of the copies.
func (d *Datapath) undoOpen(p *programPath, copies []*nfqueue.Copy) error {
	var errs []error
	for _, c := range copies {
		if p.copies[c.Number()] == c {
			delete(p.copies, c.Number())
			errs = append(errs, d.stored.removeProgram(c.Number()))
		}
	}
	if p.open {
		errs = append(errs, d.setOpen(p, false))
	}
	return errors.Join(errs...)
}

// setOpen says whether packets go to a program.
func (d *Datapath) setOpen(p *programPath, open bool) error {
	p.open = open
	d.setAway()
	return d.redirect(p)
}

// keepCopies keeps copies of whose sockets there are none.
func (d *Datapath) keepCopies(p *programPath, copies []*nfqueue.Copy) error {
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
	return nil
}

// keepCopy keeps a copy, unless there is one of the same socket.
func (d *Datapath) keepCopy(p *programPath, c *nfqueue.Copy) error {
	if have := p.copies[c.Number()]; have != nil {
		if have.SameSocket(c) {
			return nil
		}
		delete(p.copies, c.Number())
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
	if p == nil || !p.open && len(p.copies) == 0 {
		return 0, nil
	}
	err = d.setOpen(p, false)
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

// holds reports whether there is a copy of the socket that holds a queue.
func (p *programPath) holds(s *nfqueue.Stat) bool {
	c := p.copies[s.Number]
	if c == nil {
		return false
	}
	_, bound := c.StatIn([]nfqueue.Stat{*s})
	return bound
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
