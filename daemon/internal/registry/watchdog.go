// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"time"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
)

// Watchdog relieves readers whose inspector overruns its budget, and returns
// when ctx ends. Without a budget it has nothing to do.
func (r *Registry) Watchdog(ctx context.Context) {
	if r.options.Budget == 0 {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.pollers.awake:
		}
		r.watch(ctx)
	}
}

// watch returns when the pollers are idle, so that an idle node has no ticks.
func (r *Registry) watch(ctx context.Context) {
	tick := time.NewTicker(r.options.Budget / 4)
	defer tick.Stop()
	for !r.pollers.idle() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r.pollers.relieve(r.options.Budget)
	}
}

// eachBinding calls fn for all bindings there are, without the registry's lock.
func (r *Registry) eachBinding(fn func(*binding)) {
	r.mu.Lock()
	bindings := make([]*binding, 0, len(r.bindings))
	for _, b := range r.bindings {
		bindings = append(bindings, b)
	}
	r.mu.Unlock()
	for _, b := range bindings {
		fn(b)
	}
}

// Unsettle makes every settled flow be looked at again, because what decided
// about it has changed.
func (r *Registry) Unsettle() error {
	r.mu.Lock()
	r.generation = r.generation%hook.MaxGeneration + 1
	r.mu.Unlock()
	var errs []error
	r.eachBinding(func(b *binding) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.parts == nil || !b.parts.selector.Settle.On() {
			return
		}
		s := b.parts.selector
		s.Settle = r.settleSetting()
		errs = append(errs, b.parts.arm(s))
	})
	return errors.Join(errs...)
}

// settleSetting is how flows are settled now.
func (r *Registry) settleSetting() hook.Settle {
	s := r.options.Settle
	if !s.On() {
		return hook.Settle{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Generation = r.generation
	return s
}
