// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

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
	// Whole says that packets are copied, from their IP header on.
	Whole bool
	// Sequence is the ID of the newest packet.
	Sequence uint32
}

// Stats returns all queues that are bound in the netns of a place.
func Stats(at netns.Place) ([]Stat, error) {
	text, err := netns.ReadFile(at, "/proc/thread-self/net/netfilter/nfnetlink_queue")
	if err != nil {
		return nil, err
	}
	return parseStats(text)
}

func parseStats(text []byte) ([]Stat, error) {
	var stats []Stat
	for line := range bytes.Lines(text) {
		s, err := parseStat(string(line))
		if err != nil {
			return nil, fmt.Errorf("parse nfnetlink_queue line %q: %w", line, err)
		}
		stats = append(stats, s)
	}
	return stats, nil
}

// parseStat reads a line: queue, port, waiting, copy mode, copy range, dropped
// by the queue, by the socket, newest ID.
func parseStat(line string) (Stat, error) {
	var n [8]uint64
	fields := strings.Fields(line)
	if len(fields) < len(n) {
		return Stat{}, fmt.Errorf("%d fields, want %d", len(fields), len(n))
	}
	for i := range n {
		size := 32
		switch i {
		case 0:
			size = 16
		case 5, 6:
			size = 64
		}
		var err error
		if n[i], err = strconv.ParseUint(fields[i], 10, size); err != nil {
			return Stat{}, err
		}
	}
	return Stat{
		Number: uint16(n[0]), PortID: uint32(n[1]), Waiting: uint32(n[2]),
		Whole:        n[3] == copyPacket,
		QueueDropped: n[5], UserDropped: n[6], Sequence: uint32(n[7]),
	}, nil
}

// Stat returns what the kernel says of this queue; ok is false where the queue
// is not bound, or not by this socket.
func (q *Queue) Stat(at netns.Place) (s Stat, ok bool, err error) {
	stats, err := Stats(at)
	if err != nil {
		return Stat{}, false, err
	}
	return q.StatIn(stats)
}

// StatIn finds what Stat returns among the stats of all queues of the netns.
func (q *Queue) StatIn(stats []Stat) (s Stat, ok bool, err error) {
	port, err := nlsock.PortID(q.file)
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
