// SPDX-License-Identifier: Apache-2.0

package program

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// Binding is what a program has bound.
type Binding struct {
	// Copies are the sockets of its queues, in their order, once all of them are bound and
	// packets are copied. The caller closes them.
	Copies []*nfqueue.Copy
	// Others are numbers that it has bound and that are not its own.
	Others []uint16
	// Foreign says that a socket which is not the program's has one of its numbers.
	Foreign bool
}

// Close closes the copies.
func (b *Binding) Close() error {
	var errs []error
	for _, c := range b.Copies {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// socket is where a program has one open.
type socket struct {
	pid, fd int
}

// Find looks what the program has bound in the netns.
func (s *Spec) Find(at netns.Place, p *Process) (Binding, error) {
	stats, err := nfqueue.Stats(at)
	if err != nil || len(stats) == 0 {
		return Binding{}, err
	}
	inodes, err := netlinkSockets(at)
	if err != nil {
		return Binding{}, err
	}
	mine, err := p.sockets()
	if err != nil {
		return Binding{}, err
	}
	var b Binding
	found := make(map[uint16]socket)
	for _, stat := range stats {
		own := s.Has(stat.Number)
		where, ok := mine[inodes[stat.PortID]]
		switch {
		case own && ok && stat.Whole:
			found[stat.Number] = where
		case own && !ok:
			b.Foreign = true
		case ok && !own:
			b.Others = append(b.Others, stat.Number)
		}
	}
	if len(found) < int(s.Queues) {
		return b, nil
	}
	return b, b.copy(s, found)
}

// copy takes copies of all sockets.
func (b *Binding) copy(s *Spec, found map[uint16]socket) error {
	for i := range s.Queues {
		c, err := copyOf(found[s.Queue+i], s.Queue+i)
		if err != nil {
			err = fmt.Errorf("copy the socket of queue %d: %w", s.Queue+i, err)
			err = errors.Join(err, b.Close())
			b.Copies = nil
			return err
		}
		b.Copies = append(b.Copies, c)
	}
	return nil
}

func copyOf(from socket, number uint16) (*nfqueue.Copy, error) {
	pidfd, err := unix.PidfdOpen(from.pid, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, from.fd, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_getfd", err)
	}
	file := os.NewFile(uintptr(fd), "queue of a program")
	c, err := nfqueue.NewCopy(file, number)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return c, nil
}

// sockets returns those of all processes of the group, by inode.
func (p *Process) sockets() (map[uint64]socket, error) {
	pids, err := p.group.Processes()
	if err != nil {
		return nil, err
	}
	all := make(map[uint64]socket)
	for _, pid := range pids {
		dir := procPath(pid, "fd")
		entries, err := os.ReadDir(dir)
		if err != nil {
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			return nil, err
		}
		for _, e := range entries {
			target, err := os.Readlink(dir + "/" + e.Name())
			if err != nil {
				continue // closed meanwhile
			}
			fd, _ := strconv.Atoi(e.Name())
			if inode, ok := socketInode(target); ok {
				all[inode] = socket{pid, fd}
			}
		}
	}
	return all, nil
}

func socketInode(link string) (uint64, bool) {
	text, ok := strings.CutPrefix(link, "socket:[")
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64)
	return inode, err == nil
}

// netlinkSockets returns the inodes of the netfilter sockets of a netns, by port.
func netlinkSockets(at netns.Place) (map[uint32]uint64, error) {
	text, err := netns.ReadFile(at, "/proc/thread-self/net/netlink")
	if err != nil {
		return nil, err
	}
	return parseNetlink(text), nil
}

// parseNetlink reads lines of: address, protocol, port, groups, memory for receiving and
// for sending, dump, locks, drops, inode. The first one is a heading.
func parseNetlink(text []byte) map[uint32]uint64 {
	inodes := make(map[uint32]uint64)
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) < 10 || string(fields[1]) != strconv.Itoa(unix.NETLINK_NETFILTER) {
			continue
		}
		port, err := strconv.ParseUint(string(fields[2]), 10, 32)
		inode, err2 := strconv.ParseUint(string(fields[9]), 10, 64)
		if err == nil && err2 == nil {
			inodes[uint32(port)] = inode
		}
	}
	return inodes
}
