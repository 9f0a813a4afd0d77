// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"os"

	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// storedFDs are the descriptors of one netns of which the supervisor has copies,
// so that they outlive this process. Their names say what is to become of them if
// no daemon can be started.
type storedFDs struct {
	store  *fdstore.Store
	cookie uint64
	strict bool
	files  map[slot][]*os.File
}

// slot is what the name of a descriptor says, beside the netns and the policy.
type slot struct {
	kind   fdstore.Kind
	number uint16 // of a program's queue
}

func newStoredFDs(store *fdstore.Store, cookie uint64, strict bool) storedFDs {
	return storedFDs{
		store: store, cookie: cookie, strict: strict, files: make(map[slot][]*os.File),
	}
}

func (s *storedFDs) name(of slot) fdstore.Name {
	return fdstore.Name{Kind: of.kind, Cookie: s.cookie, Number: of.number, Strict: s.strict}
}

// add has one more descriptor stored, before it is used.
func (s *storedFDs) add(kind fdstore.Kind, f *os.File) error {
	return s.addTo(slot{kind: kind}, f)
}

func (s *storedFDs) addTo(to slot, f *os.File) error {
	if err := s.store.Put(s.name(to), f); err != nil {
		return err
	}
	s.noteIn(to, f)
	return nil
}

// note remembers a descriptor that is stored already.
func (s *storedFDs) note(kind fdstore.Kind, f *os.File) { s.noteIn(slot{kind: kind}, f) }

func (s *storedFDs) noteIn(to slot, f *os.File) { s.files[to] = append(s.files[to], f) }

// removeProgram has the store close its copy of a program's socket.
func (s *storedFDs) removeProgram(number uint16) error {
	of := slot{fdstore.Program, number}
	if s.files[of] == nil {
		return nil
	}
	delete(s.files, of)
	return s.store.Remove(s.name(of))
}

// setStrict changes the names. There is no moment in which a descriptor is stored
// under none.
func (s *storedFDs) setStrict(strict bool) error {
	if strict == s.strict {
		return nil
	}
	next := newStoredFDs(s.store, s.cookie, strict)
	for of, files := range s.files {
		for _, f := range files {
			if err := next.addTo(of, f); err != nil {
				return errors.Join(err, next.remove())
			}
		}
	}
	err := s.remove()
	*s = next
	return err
}

// takeOver notes the queues and what else of an earlier process is stored already,
// under its names. Where more is stored (not tidy), or under other names, the store
// gets all of them again.
func (s *storedFDs) takeOver(queues []*os.File, names []string, tidy bool) error {
	s.files[slot{kind: fdstore.Queue}] = queues
	known := map[string]bool{
		s.name(slot{kind: fdstore.Queue}).String(): true,
		s.name(slot{kind: fdstore.Table}).String(): true,
	}
	for of := range s.files {
		known[s.name(of).String()] = true
	}
	for _, name := range names {
		tidy = tidy && known[name]
	}
	if tidy {
		return nil
	}
	return s.replaceAll(names)
}

// replaceAll has what is noted stored in place of all that has the names.
func (s *storedFDs) replaceAll(names []string) error {
	errs := []error{s.removeNamed(names)}
	noted := s.files
	s.files = make(map[slot][]*os.File)
	for of, files := range noted {
		for _, f := range files {
			errs = append(errs, s.addTo(of, f))
		}
	}
	return errors.Join(errs...)
}

// removeNamed has the store close its copies of what an earlier process stored.
func (s *storedFDs) removeNamed(names []string) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, s.store.RemoveNamed(name))
	}
	return errors.Join(errs...)
}

// replaceTable has another table socket stored in place of the last one.
func (s *storedFDs) replaceTable(f *os.File) error {
	table := slot{kind: fdstore.Table}
	err := s.store.Remove(s.name(table))
	delete(s.files, table)
	if f == nil {
		return err
	}
	return errors.Join(err, s.add(fdstore.Table, f))
}

// remove has the store close its copies, before ours are closed.
func (s *storedFDs) remove() error {
	var errs []error
	for of := range s.files {
		errs = append(errs, s.store.Remove(s.name(of)))
	}
	s.files = make(map[slot][]*os.File)
	return errors.Join(errs...)
}

// programSlot is where the copy of a program's socket is stored.
func programSlot(c *nfqueue.Copy) slot { return slot{fdstore.Program, c.Number()} }
