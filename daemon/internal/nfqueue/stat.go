// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"bufio"
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nlsock"
)

// Stat is what the kernel says of a bound queue.
type Stat struct {
	Number uint16
	// PortID of the socket that holds the queue.
	PortID uint32
	// Waiting packets, without a verdict so far.
	Waiting uint32
	// QueueDropped packets found the queue full, UserDropped the socket.
	QueueDropped, UserDropped uint64
	// Sequence is the ID of the newest packet.
	Sequence uint32
}

// Stats returns the queues that are bound in the netns of a place, by whomever.
func Stats(at netns.Place) ([]Stat, error) {
	var text []byte
	err := at.Do(func() error {
		var err error
		text, err = os.ReadFile("/proc/thread-self/net/netfilter/nfnetlink_queue")
		return err
	})
	if err != nil {
		return nil, err
	}
	return parseStats(text)
}

func parseStats(text []byte) ([]Stat, error) {
	var stats []Stat
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		var s Stat
		var mode, copyRange uint32
		_, err := fmt.Sscan(lines.Text(), &s.Number, &s.PortID, &s.Waiting, &mode, &copyRange,
			&s.QueueDropped, &s.UserDropped, &s.Sequence)
		if err != nil {
			return nil, fmt.Errorf("parse nfnetlink_queue line %q: %w", lines.Text(), err)
		}
		stats = append(stats, s)
	}
	return stats, nil
}

// Stat returns what the kernel says of this queue; ok is false where the queue
// is not bound, or not by this socket.
func (q *Queue) Stat(at netns.Place) (s Stat, ok bool, err error) {
	port, err := nlsock.PortID(q.file)
	if err != nil {
		return Stat{}, false, err
	}
	stats, err := Stats(at)
	if err != nil {
		return Stat{}, false, err
	}
	for _, s := range stats {
		if s.Number == q.config.Number && s.PortID == port {
			return s, true, nil
		}
	}
	return Stat{}, false, nil
}

// Ioctl asks the netns of the queue's socket for something about an interface.
func (q *Queue) Ioctl(request uint, arg *unix.Ifreq) error {
	return q.control(func(fd int) error { return unix.IoctlIfreq(fd, request, arg) })
}
