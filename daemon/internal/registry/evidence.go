// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// emptyTime is how old an attachment is at least before an empty netns counts
// for a pod that is gone: a runtime makes the netns before its processes.
const emptyTime = 30 * time.Second

// sight is what was found of something that is looked for.
type sight int

const (
	unknown sight = iota // it may be there: it cannot be seen from here
	there
	absent
)

// evidence is what speaks for a pod's life or death. Only what was looked for
// where it would be seen is absent.
type evidence struct {
	// path: the netns is at the path by which it was found. It is absent only if this
	// process has seen it there.
	path sight
	// holders: a process is in the netns, or the node has it mounted.
	holders sight
	// link: the netns has the interface.
	link sight
	// held: our sockets keep the netns, which is inspected.
	held bool
	age  time.Duration
}

// conclusion is what follows from evidence.
type conclusion int

const (
	undecided conclusion = iota // something that must be known cannot be seen
	alive
	young // too young to tell
	gone
)

// conclude weighs evidence. docs/reliability.md has the same as a table.
func (e evidence) conclude() conclusion {
	switch {
	case e.path == there, e.holders == there:
		return alive
	case e.holders == unknown && e.path == absent && !e.held:
		return gone
	case e.holders == unknown:
		return undecided
	case !e.held, e.link == absent, e.age >= emptyTime:
		return gone
	}
	return young
}

func holders(rec *state.Record, census *netns.Census) sight {
	switch {
	case census.Find(rec.Netns.Dev, rec.Netns.Ino) != "":
		return there
	case census.Hidden != nil:
		return unknown
	}
	return absent
}

// seenNetns are the netns that this process has seen at their paths. It is safe for
// concurrent use.
type seenNetns struct {
	mu      sync.Mutex
	cookies map[uint64]bool
}

func newSeenNetns() *seenNetns { return &seenNetns{cookies: make(map[uint64]bool)} }

// isAt reports whether the netns is at the path by which it was found. While we
// hold it, the kernel gives its inode to no other.
func (s *seenNetns) isAt(rec *state.Record) bool {
	for _, path := range netns.Paths(rec.Netns.Path) {
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && st.Dev == rec.Netns.Dev && st.Ino == rec.Netns.Ino {
			s.add(rec)
			return true
		}
	}
	return false
}

// notAt says what it means that the netns is not at its path. A process's netns
// outlives the process.
func (s *seenNetns) notAt(rec *state.Record) sight {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cookies[rec.Netns.Cookie] && !strings.HasPrefix(rec.Netns.Path, "/proc/") {
		return absent
	}
	return unknown
}

// add notes that this process has seen the netns at its path.
func (s *seenNetns) add(rec *state.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cookies[rec.Netns.Cookie] = true
}

// retain removes all but these.
func (s *seenNetns) retain(cookies map[uint64]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.cookies, func(cookie uint64, _ bool) bool { return !cookies[cookie] })
}

// missing says why it cannot be told whether a pod lives, and what ends that.
func (s *seenNetns) missing(rec *state.Record, census *netns.Census) string {
	return fmt.Sprintf("%s; %s", s.noPath(rec), census.Hidden)
}

// noPath says why the netns is not found by its path, and what ends that.
func (s *seenNetns) noPath(rec *state.Record) string {
	path := rec.Netns.Path
	switch {
	case path == "":
		return "its netns has no path"
	case s.notAt(rec) == absent:
		return "its netns is not at " + path
	}
	return "its netns is not at " + path + ", where it was never seen (in a container, its " +
		"directory must be mounted with propagation HostToContainer)"
}

// doubts are the attachments of which it cannot be told whether their pods live.
type doubts struct {
	first state.Record
	api.Doubts
}

func (d *doubts) add(rec *state.Record, why string) {
	if d.Attachments == 0 {
		d.first, d.Key, d.Pod, d.Reason = *rec, rec.Key, rec.Pod, why
	}
	d.Attachments++
}
