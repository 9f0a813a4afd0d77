// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// What counts as traffic that goes past the hook, in so many looks in a row.
const (
	pastLooks = 2
	// pastPackets are too many, in each direction and between two looks, for the
	// link's own protocols, and pastSize is more than the average of ARP.
	pastPackets = 100
	pastSize    = 64
	// pastRatio is how many packets of the interface there are at least for each
	// that the hook saw. Of merged ones (segmentation offload) there are fewer.
	pastRatio = 1000
)

// Comparison is what a look at the traffic has found.
type Comparison struct {
	// Meets: the hook saw it. Past: it goes past the hook, as the look before said,
	// too. With neither, too little has moved to tell.
	Meets, Past bool
	// Moved is what the interfaces counted since the look before, and Seen how many
	// packets the hook saw of it.
	Moved netns.Traffic
	Seen  uint64
}

// trafficWatch is what was seen of the traffic of a netns at a verification.
type trafficWatch struct {
	// known says that traffic is what an earlier look saw.
	known   bool
	traffic netns.Traffic
	read    uint64 // packets that the readers had
	hook    uint64 // packets that the hook decided about
	sent    uint64 // packets that the IP stack sent, where sentKnown
	// sentKnown: the stack is asked only of pods that are suspected.
	sentKnown bool
	missed    int // looks in a row that found traffic past the hook
}

// trafficSource is asked what became of the traffic.
type trafficSource struct {
	read uint64 // packets that the readers had
	hook func() (hook.Counters, error)
	// sent asks the IP stack; nil where the hook counts all that meets it.
	sent func() (uint64, error)
}

// compare looks whether the traffic of the netns' interfaces meets the hook.
func (w *trafficWatch) compare(traffic netns.Traffic, from trafficSource) (Comparison, error) {
	moved, known := grown(w.traffic, traffic), w.known
	w.traffic, w.known = traffic, true
	seen, err := w.seen(moved, from)
	if err != nil || !known {
		return Comparison{}, err
	}
	c := Comparison{Moved: moved, Seen: seen, Meets: meets(moved, seen)}
	if c.Meets || !significant(moved) {
		w.missed = 0
		return c, nil
	}
	w.missed++
	c.Past = w.missed >= pastLooks
	return c, nil
}

// seen returns how many packets have met the hook since it was asked last. The
// readers know for nothing of most pods, and only where they do not, the hook is
// asked, whose count may then include packets of earlier looks.
func (w *trafficWatch) seen(moved netns.Traffic, from trafficSource) (uint64, error) {
	seen := growth(w.read, from.read)
	w.read = from.read
	if meets(moved, seen) || !significant(moved) {
		return seen, nil
	}
	c, err := from.hook()
	if err != nil {
		return 0, err
	}
	decided := c.Queued + c.Settled
	seen = max(seen, growth(w.hook, decided))
	w.hook = decided
	if meets(moved, seen) || from.sent == nil {
		return seen, nil
	}
	return w.sentBeside(seen, from)
}

// sentBeside adds to what the hook counted what the IP stack sent: of a selection
// the hook does not count the rest, and that did meet it.
func (w *trafficWatch) sentBeside(seen uint64, from trafficSource) (uint64, error) {
	sent, err := from.sent()
	if err != nil {
		return 0, err
	}
	if w.sentKnown {
		seen += growth(w.sent, sent)
	}
	w.sent, w.sentKnown = sent, true
	return seen, nil
}

// grown returns what came since. Counters begin at 0 with an interface.
func grown(from, to netns.Traffic) netns.Traffic {
	return netns.Traffic{
		RxBytes:   growth(from.RxBytes, to.RxBytes),
		RxPackets: growth(from.RxPackets, to.RxPackets),
		TxBytes:   growth(from.TxBytes, to.TxBytes),
		TxPackets: growth(from.TxPackets, to.TxPackets),
	}
}

// meets reports whether the hook saw a plausible part of the traffic. It may
// have seen more than the interfaces: other ones are in the netns.
func meets(moved netns.Traffic, seen uint64) bool {
	return seen > 0 && seen >= (moved.RxPackets+moved.TxPackets)/pastRatio
}

// significant reports whether traffic is more than what a link needs itself, or
// what comes for others.
func significant(moved netns.Traffic) bool {
	return moved.RxPackets >= pastPackets && moved.TxPackets >= pastPackets &&
		moved.RxBytes > pastSize*moved.RxPackets && moved.TxBytes > pastSize*moved.TxPackets
}

func selectsAll(s *hook.Selector) bool {
	return s.Directions == hook.AllDirections && len(s.Protocols) == 0
}
