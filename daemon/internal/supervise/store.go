// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/succession"
)

// held is a descriptor in the store.
type held struct {
	Name string `json:"name"`
	FD   int    `json:"fd"`
	ID   uint64 `json:"-"` // grows from each to the next
}

// store holds descriptors for the daemon, in the order in which they came.
type store struct {
	capacity int
	held     []held
	last     uint64  // ID that was given
	closer   *closer // of what leaves the store
}

// add takes a descriptor over.
func (s *store) add(name string, fd int) {
	s.last++
	s.held = append(s.held, held{Name: name, FD: fd, ID: s.last})
}

// forget has those at the positions closed.
func (s *store) forget(positions []int) (err error) {
	s.held, err = succession.DeleteAt(s.held, positions, func(h held) { s.closer.add(h.FD) })
	return err
}

// put takes the descriptors over, or closes those that are too many.
func (s *store) put(name string, fds []int) error {
	// More names than this, and no daemon can be started any more.
	room := (fdstore.MaxNames - len(s.names()) - 1) / (len(name) + 1)
	room = max(0, min(room, s.capacity-len(s.held)))
	kept := fds[:min(room, len(fds))]
	for _, fd := range kept {
		s.add(name, fd)
	}
	if len(kept) == len(fds) {
		return nil
	}
	s.closer.add(fds[len(kept):]...)
	return fmt.Errorf("store %s: %d descriptors are too many: the store holds %d of %d",
		name, len(fds)-len(kept), len(s.held), s.capacity)
}

// remove has the descriptors closed for which match is true, and returns how
// many there are.
func (s *store) remove(match func(name string) bool) int {
	before := len(s.held)
	s.held = slices.DeleteFunc(s.held, func(h held) bool {
		if !match(h.Name) {
			return false
		}
		s.closer.add(h.FD)
		return true
	})
	return before - len(s.held)
}

// releaseIgnored closes what belongs to pods under failure policy Ignore: without
// a holder of their queues, their packets pass.
func (s *store) releaseIgnored() int {
	ignored := func(name string) bool {
		n, err := fdstore.ParseName(name)
		return err == nil && !n.Strict
	}
	return s.remove(func(name string) bool { return isQueue(name) && ignored(name) }) +
		s.remove(ignored)
}

// isQueue reports whether a name is a queue's. Queues are closed before tables,
// which take longer: a pod under Ignore has its network back with the queue.
func isQueue(name string) bool {
	n, err := fdstore.ParseName(name)
	return err == nil && n.Kind == fdstore.Queue
}

// strict returns how many descriptors belong to pods under Fail.
func (s *store) strict() int {
	count := 0
	for _, h := range s.held {
		if n, err := fdstore.ParseName(h.Name); err == nil && n.Strict {
			count++
		}
	}
	return count
}

// names is the list as the environment carries it.
func (s *store) names() string { return namesOf(s.held) }

func namesOf(list []held) string {
	names := make([]string, len(list))
	for i, h := range list {
		names[i] = h.Name
	}
	return strings.Join(names, ":")
}

// closeOnExec says whether the descriptors end with this program.
func (s *store) closeOnExec(yes bool) error {
	for _, h := range s.held {
		if err := closeOnExec(h.FD, yes); err != nil {
			return fmt.Errorf("descriptor %s: %w", h.Name, err)
		}
	}
	return nil
}

// named is what is held, as it is handed over.
func (s *store) named() []succession.Named {
	list := make([]succession.Named, len(s.held))
	for i, h := range s.held {
		list[i] = succession.Named{Name: h.Name, FD: h.FD, ID: h.ID}
	}
	return list
}

func (s *store) close() {
	s.remove(isQueue)
	s.remove(func(string) bool { return true })
}

func closeOnExec(fd int, yes bool) error {
	flags := 0
	if yes {
		flags = unix.FD_CLOEXEC
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, flags)
	return err
}
