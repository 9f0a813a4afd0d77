// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"os"

	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
)

// storedFDs are the descriptors of one netns of which the supervisor has copies,
// so that they outlive this process. Their names say what is to become of them if
// no daemon can be started.
type storedFDs struct {
	store  *fdstore.Store
	cookie uint64
	strict bool
	files  map[fdstore.Kind][]*os.File
}

func newStoredFDs(store *fdstore.Store, cookie uint64, strict bool) storedFDs {
	return storedFDs{
		store: store, cookie: cookie, strict: strict, files: make(map[fdstore.Kind][]*os.File),
	}
}

func (s *storedFDs) name(kind fdstore.Kind) fdstore.Name {
	return fdstore.Name{Kind: kind, Cookie: s.cookie, Strict: s.strict}
}

// add has one more descriptor stored, before it is used.
func (s *storedFDs) add(kind fdstore.Kind, f *os.File) error {
	if err := s.store.Put(s.name(kind), f); err != nil {
		return err
	}
	s.note(kind, f)
	return nil
}

// note remembers a descriptor that is stored already.
func (s *storedFDs) note(kind fdstore.Kind, f *os.File) { s.files[kind] = append(s.files[kind], f) }

// setStrict changes the names. There is no moment in which a descriptor is stored
// under none.
func (s *storedFDs) setStrict(strict bool) error {
	if strict == s.strict {
		return nil
	}
	next := newStoredFDs(s.store, s.cookie, strict)
	for kind, files := range s.files {
		for _, f := range files {
			if err := next.add(kind, f); err != nil {
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
	s.files[fdstore.Queue] = queues
	queue, table := s.name(fdstore.Queue).String(), s.name(fdstore.Table).String()
	for _, name := range names {
		tidy = tidy && (name == queue || name == table)
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
	s.files = make(map[fdstore.Kind][]*os.File)
	for kind, files := range noted {
		for _, f := range files {
			errs = append(errs, s.add(kind, f))
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
	err := s.store.Remove(s.name(fdstore.Table))
	delete(s.files, fdstore.Table)
	if f == nil {
		return err
	}
	return errors.Join(err, s.add(fdstore.Table, f))
}

// remove has the store close its copies, before ours are closed.
func (s *storedFDs) remove() error {
	var errs []error
	for kind := range s.files {
		errs = append(errs, s.store.Remove(s.name(kind)))
	}
	s.files = make(map[fdstore.Kind][]*os.File)
	return errors.Join(errs...)
}
