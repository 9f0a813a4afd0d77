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
	names  []string            // under which they are stored
	// untidy says that more is stored than the above: a socket that is not bound,
	// because its daemon died before it came to that, or one descriptor under
	// two names.
	untidy bool
}

// Identity returns which netns it is of.
func (i *Inherited) Identity() netns.ID { return i.ns.ID() }

// Strict reports whether packets that cannot be inspected are to be dropped.
func (i *Inherited) Strict() bool { return i.strict }

// Waits reports whether packets wait for a verdict that its kernel has sent already.
func (i *Inherited) Waits() bool {
	for _, f := range i.queues {
		if readable(f) {
			return true
		}
	}
	return false
}

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

// inheritedByCookie is all that was left.
type inheritedByCookie map[uint64]*Inherited

// Classify sorts what was left by the cookie of its netns. It finds out what each
// descriptor is by asking the descriptor; names only have to agree. What is not ours
// is closed. A name that this version does not know is an error: a newer daemon has
// stored it.
func Classify(
	inherited []fdstore.Descriptor, log *slog.Logger,
) (map[uint64]*Inherited, error) {
	names := make([]fdstore.Name, len(inherited))
	for i, have := range inherited {
		var err error
		if names[i], err = fdstore.ParseName(have.Name); err != nil {
			return nil, err
		}
	}
	all := make(inheritedByCookie)
	return all, netns.Tour(func(visit func(*netns.NetNS) netns.Place) error {
		for i, have := range inherited {
			if names[i].Kind == fdstore.Listener {
				continue
			}
			if err := all.add(names[i], have.File, visit); err != nil {
				log.Error("cannot use an inherited descriptor; closing it",
					slog.String("name", have.Name), slog.Any("error", err))
				_ = have.File.Close()
			}
		}
		return nil
	})
}

func (all inheritedByCookie) add(
	name fdstore.Name, f *os.File, visit func(*netns.NetNS) netns.Place,
) error {
	i, err := all.of(name, f)
	if err != nil {
		return err
	}
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
	number, bound, err := nfqueue.Held(visit(i.ns), f)
	if err != nil {
		return err
	}
	if !bound || i.queues[number] != nil {
		return i.close(f)
	}
	i.queues[number] = f
	return nil
}

// closeAll closes what was not taken out.
func (i *Inherited) closeAll() error {
	errs := []error{i.ns.Close()}
	for _, f := range i.queues {
		errs = append(errs, f.Close())
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

// of returns the entry of the netns that the socket belongs to.
func (all inheritedByCookie) of(name fdstore.Name, socket *os.File) (*Inherited, error) {
	ns, err := netns.OfSocket(socket)
	if err != nil {
		return nil, err
	}
	cookie := ns.ID().Cookie
	if cookie != name.Cookie {
		return nil, errors.Join(fmt.Errorf("belongs to netns %d", cookie), ns.Close())
	}
	if have := all[cookie]; have != nil {
		return have, ns.Close()
	}
	all[cookie] = &Inherited{ns: ns, queues: make(map[uint16]*os.File)}
	return all[cookie], nil
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
