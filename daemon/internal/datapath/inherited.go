// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// Inherited is what an earlier process left of one netns. What uses a file
// takes it out.
type Inherited struct {
	ns     *netns.NetNS
	strict bool
	queues map[uint16]*os.File // bound sockets, by number
	table  *os.File            // nil for none
	// programs are copies of bound sockets of programs, by number.
	programs map[uint16]*os.File
	names    []string // under which they are stored
	// untidy says that more is stored than the above: a socket that is not bound,
	// because its daemon died before it came to that, or one descriptor under
	// two names.
	untidy bool
}

// Identity returns which netns it is of.
func (i *Inherited) Identity() netns.ID { return i.ns.ID() }

// Strict reports whether packets that cannot be inspected are to be dropped.
func (i *Inherited) Strict() bool { return i.strict }

// readable reports whether a packet waits in a queue's socket for a verdict.
func readable(f *os.File) bool {
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	err = conn.Control(func(fd uintptr) {
		n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	})
	return err == nil && n > 0
}

// Looks is what was found out about inherited descriptors. That takes longer than packets
// should wait, so that it is done before another process stops reading, where that can be.
// The zero value has seen none, and so has nil.
type Looks struct {
	seen map[*os.File]look
	ns   map[uint64]*netns.NetNS // by cookie
}

// look is what a descriptor is, as the kernel says.
type look struct {
	cookie uint64
	number uint16
	bound  bool // as a queue
	err    error
}

// isQueue reports whether a descriptor is of a queue, ours or a program's.
func isQueue(kind fdstore.Kind) bool { return kind == fdstore.Queue || kind == fdstore.Program }

// Look finds out what is not known of descriptors, and forgets all others. It changes
// nothing of them.
func (l *Looks) Look(inherited []fdstore.Descriptor) error {
	before := l.seen
	l.seen = make(map[*os.File]look, len(inherited))
	if l.ns == nil {
		l.ns = make(map[uint64]*netns.NetNS)
	}
	unknown := make(map[*os.File]fdstore.Name)
	for _, have := range inherited {
		name, err := fdstore.ParseName(have.Name)
		if err != nil || name.Kind == fdstore.Listener {
			continue
		}
		seen, ok := before[have.File]
		// A socket is stored before it is bound.
		if !ok || seen.err != nil || isQueue(name.Kind) && !seen.bound {
			unknown[have.File] = name
		}
		l.seen[have.File] = seen
	}
	return errors.Join(l.lookAt(unknown), l.forgetNetns())
}

func (l *Looks) lookAt(unknown map[*os.File]fdstore.Name) error {
	if len(unknown) == 0 {
		return nil
	}
	return netns.Tour(func(visit func(*netns.NetNS) netns.Place) error {
		for f, name := range unknown {
			l.seen[f] = l.at(name, f, visit)
		}
		return nil
	})
}

func (l *Looks) at(
	name fdstore.Name, f *os.File, visit func(*netns.NetNS) netns.Place,
) (seen look) {
	ns, err := netns.OfSocket(f)
	if err != nil {
		return look{err: err}
	}
	seen.cookie = ns.ID().Cookie
	if have := l.ns[seen.cookie]; have != nil {
		seen.err = ns.Close()
		ns = have
	} else {
		l.ns[seen.cookie] = ns
	}
	if seen.cookie != name.Cookie {
		seen.err = fmt.Errorf("belongs to netns %d", seen.cookie)
	}
	if seen.err == nil && isQueue(name.Kind) {
		seen.number, seen.bound, seen.err = held(name, f, visit(ns))
	}
	return seen
}

// held finds out which queue a socket holds. That of a program may hold several, each of
// which has a name.
func held(name fdstore.Name, f *os.File, at netns.Place) (number uint16, bound bool, err error) {
	if name.Kind != fdstore.Program {
		return nfqueue.Held(at, f)
	}
	c, err := nfqueue.NewCopy(f, name.Number)
	if err != nil {
		return 0, false, err
	}
	_, bound, err = c.Stat(at)
	return name.Number, bound, err
}

// forgetNetns closes those of which no descriptor is left.
func (l *Looks) forgetNetns() error {
	used := make(map[uint64]bool, len(l.ns))
	for _, seen := range l.seen {
		used[seen.cookie] = true
	}
	var errs []error
	for cookie, ns := range l.ns {
		if !used[cookie] {
			errs = append(errs, ns.Close())
			delete(l.ns, cookie)
		}
	}
	return errors.Join(errs...)
}

// Doubt has queues looked at again: a process that did not end in order may have left
// them otherwise than they were.
func (l *Looks) Doubt() {
	for f, seen := range l.seen {
		seen.bound = false
		l.seen[f] = seen
	}
}

// CheckNames fails where a name is not known to this version: a newer daemon has stored
// the descriptor.
func CheckNames(inherited []fdstore.Descriptor) error {
	for _, have := range inherited {
		if _, err := fdstore.ParseName(have.Name); err != nil {
			return err
		}
	}
	return nil
}

// WaitingFirst returns the descriptors in two parts: those of netns in which packets wait
// for a verdict, and the others.
func WaitingFirst(inherited []fdstore.Descriptor) [2][]fdstore.Descriptor {
	waits := make(map[uint64]bool)
	for _, have := range inherited {
		name, err := fdstore.ParseName(have.Name)
		if err == nil && name.Kind == fdstore.Queue && readable(have.File) {
			waits[name.Cookie] = true
		}
	}
	var parts [2][]fdstore.Descriptor
	for _, have := range inherited {
		name, err := fdstore.ParseName(have.Name)
		part := 1
		if err == nil && waits[name.Cookie] {
			part = 0
		}
		parts[part] = append(parts[part], have)
	}
	return parts
}

// inheritedByCookie is all that was left.
type inheritedByCookie map[uint64]*Inherited

// Classify sorts what was left by the cookie of its netns. It finds out what each
// descriptor is by asking the descriptor, unless that was done ahead; names only have to
// agree. What is not ours is closed. A name that this version does not know is an error.
func Classify(
	inherited []fdstore.Descriptor, ahead *Looks, log *slog.Logger,
) (map[uint64]*Inherited, error) {
	if err := CheckNames(inherited); err != nil {
		return nil, err
	}
	looks := ahead.part(inherited)
	if err := looks.Look(inherited); err != nil {
		return nil, err
	}
	all := make(inheritedByCookie)
	for _, have := range inherited {
		name, err := fdstore.ParseName(have.Name)
		if err != nil || name.Kind == fdstore.Listener {
			continue
		}
		if err := all.add(name, have.File, looks); err != nil {
			log.Error("cannot use an inherited descriptor; closing it",
				slog.String("name", have.Name), slog.Any("error", err))
			_ = have.File.Close()
		}
	}
	return all, looks.Close()
}

// part takes out what is known of some of the descriptors.
func (l *Looks) part(of []fdstore.Descriptor) *Looks {
	p := &Looks{seen: make(map[*os.File]look, len(of)), ns: make(map[uint64]*netns.NetNS)}
	if l == nil {
		return p
	}
	for _, have := range of {
		seen, ok := l.seen[have.File]
		if !ok {
			continue
		}
		delete(l.seen, have.File)
		p.seen[have.File] = seen
		if ns := l.ns[seen.cookie]; ns != nil && seen.err == nil {
			p.ns[seen.cookie] = ns
			delete(l.ns, seen.cookie)
		}
	}
	return p
}

// Close forgets all.
func (l *Looks) Close() error {
	l.seen = nil
	return l.forgetNetns()
}

func (all inheritedByCookie) add(name fdstore.Name, f *os.File, looks *Looks) error {
	seen := looks.seen[f]
	if seen.err != nil {
		return seen.err
	}
	i := all.of(seen.cookie, looks)
	i.strict = i.strict || name.Strict
	if !slices.Contains(i.names, name.String()) {
		i.names = append(i.names, name.String())
	}
	if name.Kind == fdstore.Table {
		if i.table != nil {
			return i.close(f)
		}
		i.table = f
		return nil
	}
	of := i.queues
	if name.Kind == fdstore.Program {
		of = i.programs
	}
	if !seen.bound || of[seen.number] != nil {
		return i.close(f)
	}
	of[seen.number] = f
	return nil
}

// of returns the entry of a netns, which takes that over.
func (all inheritedByCookie) of(cookie uint64, looks *Looks) *Inherited {
	if all[cookie] == nil {
		all[cookie] = &Inherited{
			ns: looks.ns[cookie], queues: make(map[uint16]*os.File),
			programs: make(map[uint16]*os.File),
		}
		delete(looks.ns, cookie)
	}
	return all[cookie]
}

// closeAll closes what was not taken out.
func (i *Inherited) closeAll() error {
	errs := []error{i.ns.Close()}
	for _, of := range []map[uint16]*os.File{i.queues, i.programs} {
		for _, f := range of {
			errs = append(errs, f.Close())
		}
	}
	if i.table != nil {
		errs = append(errs, i.table.Close())
	}
	return errors.Join(errs...)
}

// close closes what is not used.
func (i *Inherited) close(f *os.File) error {
	i.untidy = true
	return f.Close()
}

// takeQueue takes the socket of a queue out; nil where there is none.
func (i *Inherited) takeQueue(number uint16) *os.File {
	if i == nil {
		return nil
	}
	f := i.queues[number]
	delete(i.queues, number)
	return f
}

// takeTable takes the table's socket out; nil where there is none.
func (i *Inherited) takeTable() *os.File {
	if i == nil {
		return nil
	}
	f := i.table
	i.table = nil
	return f
}
