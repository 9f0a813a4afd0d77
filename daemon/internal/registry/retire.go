// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// retiring lets attachments be made until the registry retires.
type retiring struct {
	making sync.RWMutex // held for reading while an attachment is made
	done   bool
}

// enter says that an attachment is being made, until leave; its error is that there are
// to be none any more.
func (r *retiring) enter() error {
	r.making.RLock()
	if !r.done {
		return nil
	}
	r.making.RUnlock()
	return api.Errorf(api.CodeRetired, "nsqueue leaves this node, and inspects nothing any more")
}

func (r *retiring) leave() { r.making.RUnlock() }

// begin has no attachment be made from then on, and waits for those that are.
func (r *retiring) begin() {
	r.making.Lock()
	defer r.making.Unlock()
	r.done = true
}

func (r *retiring) begun() bool {
	r.making.RLock()
	defer r.making.RUnlock()
	return r.done
}

// Retire ends all attachments, also those that were not restored so far, and makes no more
// from then on. It returns how many it ended. What could not be ended is tried again by
// [Registry.Verify], and by the next call.
func (r *Registry) Retire(ctx context.Context) (int, error) {
	r.retiring.begin()
	n, err := r.DetachAll(ctx)
	before := len(r.unrestored())
	r.retry(ctx)
	left := r.unrestored()
	if len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("what an earlier nsqueued has made for %d pods is not "+
			"found, such as %s", len(left), left[0]))
	}
	return n + before - len(left), err
}

// Retired reports whether no attachments are made any more.
func (r *Registry) Retired() bool { return r.retiring.begun() }

// unrestored returns the keys of what is not restored so far.
func (r *Registry) unrestored() []api.Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := slices.Collect(maps.Keys(r.pending))
	slices.SortFunc(keys, compareKeys)
	return keys
}
