// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"os"

	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
)

// keeper has the descriptors of one netns kept by whoever started us, so that
// they outlive this process. Their names say what is to become of them if no
// daemon can be started.
type keeper struct {
	store  *fdstore.Store
	cookie uint64
	strict bool
	kept   map[fdstore.Kind][]*os.File
}

func newKeeper(store *fdstore.Store, cookie uint64, strict bool) keeper {
	return keeper{
		store: store, cookie: cookie, strict: strict, kept: make(map[fdstore.Kind][]*os.File),
	}
}

func (k *keeper) name(kind fdstore.Kind) fdstore.Name {
	return fdstore.Name{Kind: kind, Cookie: k.cookie, Strict: k.strict}
}

// keep has one more descriptor kept, before it is used.
func (k *keeper) keep(kind fdstore.Kind, f *os.File) error {
	if err := k.store.Put(k.name(kind), f); err != nil {
		return err
	}
	k.note(kind, f)
	return nil
}

// note remembers a descriptor that is kept already.
func (k *keeper) note(kind fdstore.Kind, f *os.File) { k.kept[kind] = append(k.kept[kind], f) }

// setStrict changes the names. There is no moment in which a descriptor is kept
// under none.
func (k *keeper) setStrict(strict bool) error {
	if strict == k.strict {
		return nil
	}
	next := newKeeper(k.store, k.cookie, strict)
	for kind, files := range k.kept {
		for _, f := range files {
			if err := next.keep(kind, f); err != nil {
				return errors.Join(err, next.letGo())
			}
		}
	}
	err := k.letGo()
	*k = next
	return err
}

// takeOver notes what the store keeps already of an inheritance. Where it keeps
// more or under other names, it is told anew what to keep.
func (k *keeper) takeOver(i *Inherited, lanes []*lane) error {
	k.kept[fdstore.Queue] = nil
	for _, l := range lanes {
		k.note(fdstore.Queue, l.queue.File())
	}
	tidy := !i.untidy
	queue, table := k.name(fdstore.Queue).String(), k.name(fdstore.Table).String()
	for _, name := range i.names {
		tidy = tidy && (name == queue || name == table)
	}
	if tidy {
		return nil
	}
	return k.again(i.names)
}

// again empties the names and has what is noted kept.
func (k *keeper) again(names []string) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, k.store.RemoveNamed(name))
	}
	kept := k.kept
	k.kept = make(map[fdstore.Kind][]*os.File)
	for kind, files := range kept {
		for _, f := range files {
			errs = append(errs, k.keep(kind, f))
		}
	}
	return errors.Join(errs...)
}

// replaceTable has another table socket kept in place of the last one.
func (k *keeper) replaceTable(f *os.File) error {
	err := k.store.Remove(k.name(fdstore.Table))
	delete(k.kept, fdstore.Table)
	if f == nil {
		return err
	}
	return errors.Join(err, k.keep(fdstore.Table, f))
}

// letGo ends the keeping, before the descriptors are closed.
func (k *keeper) letGo() error {
	var errs []error
	for kind := range k.kept {
		errs = append(errs, k.store.Remove(k.name(kind)))
	}
	k.kept = make(map[fdstore.Kind][]*os.File)
	return errors.Join(errs...)
}
