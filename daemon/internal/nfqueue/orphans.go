// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nlsock"
)

// Held returns the number of the queue that a socket holds in the netns; ok is
// false where it holds none.
func Held(at netns.Place, socket *os.File) (number uint16, ok bool, err error) {
	port, err := nlsock.PortID(socket)
	if err != nil {
		return 0, false, err
	}
	stats, err := Stats(at)
	if err != nil {
		return 0, false, err
	}
	for _, s := range stats {
		if s.PortID == port {
			return s.Number, true, nil
		}
	}
	return 0, false, nil
}

// OpenInherited makes a queue of a socket that another process opened and bound to
// c.Number, and gives it this configuration. What waits in it stays there. The
// file is the queue's, unless an error is returned.
//
// No reply is awaited, because thousands of packets may be in front of it. The
// kernel only refuses what it refused at Bind.
func OpenInherited(socket *os.File, c Config) (*Queue, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	q, err := newQueue(socket, c)
	if err != nil {
		return nil, err
	}
	err = q.send("send queue configuration", appendConfigure(nil, &q.config))
	if err == nil {
		err = socket.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("configure queue %d: %w", c.Number,
			errors.Join(err, q.file.Close()))
	}
	return q, nil
}

// AnswerOrphans gives the packets that a dead process had received, but not
// answered, a verdict, and returns how many there were. The queue has no reader yet.
//
// All packets that wait and are not in the socket any more are orphans: those
// before the first one in the socket or, where it is empty, those up to the ID
// that the kernel had given last before we looked.
func (q *Queue) AnswerOrphans(at netns.Place, accept bool) (int, error) {
	stat, bound, err := q.Stat(at)
	if err != nil || !bound {
		return 0, err
	}
	first, found, err := q.firstWaiting()
	if err != nil {
		return 0, err
	}
	newest := stat.Sequence
	if found {
		newest = first - 1
	}
	orphans, err := q.countUpTo(newest, at)
	if orphans == 0 || err != nil {
		return 0, err
	}
	return orphans, q.AnswerAll(newest, accept)
}

// countUpTo returns how many packets wait whose ID is not after newest. While it
// puts a packet into the socket, the kernel has given its ID and not counted it
// yet, so that a single look may find one too few.
func (q *Queue) countUpTo(newest uint32, at netns.Place) (int, error) {
	const looks = 4
	count := 0
	for range looks {
		stat, bound, err := q.Stat(at)
		if err != nil || !bound {
			return 0, err
		}
		later := max(int(int32(stat.Sequence-newest)), 0)
		count = max(count, int(stat.Waiting)-later)
	}
	return count, nil
}

// firstWaiting returns the ID of the first packet in the socket, and takes out
// what is no packet in front of it.
func (q *Queue) firstWaiting() (id uint32, found bool, err error) {
	buf := make([]byte, nlHeaderLen+genHeaderLen+attrLen+8)
	err = q.control(func(fd int) error {
		for {
			n, from, err := unix.Recvfrom(fd, buf, unix.MSG_PEEK|unix.MSG_DONTWAIT)
			if errors.Is(err, unix.EAGAIN) {
				return nil
			}
			if err != nil {
				return os.NewSyscallError("peek at queue", err)
			}
			nl, ok := from.(*unix.SockaddrNetlink)
			if ok && nl.Pid == 0 {
				if id, found = packetID(buf[:n]); found {
					return nil
				}
			}
			if _, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT); err != nil {
				return os.NewSyscallError("read queue", err)
			}
		}
	})
	return id, found, err
}
