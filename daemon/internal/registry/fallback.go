// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// fallbackInterval bounds how long pods go uninspected after their hook vanished.
const fallbackInterval = 250 * time.Millisecond

// Fallback puts the other hook in place of one that is no longer present, such as
// a module that was unloaded, and returns when ctx ends. Without a
// fallback it has nothing to do; Check reports what is missing meanwhile.
func (r *Registry) Fallback(ctx context.Context) {
	if r.hooks.Fallback == nil {
		return
	}
	tick := time.NewTicker(fallbackInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !r.hooks.Hook.Present() {
			r.replaceHooks()
		}
	}
}

// replaceHooks arms the fallback wherever the vanished hook is still in use. What
// fails is tried again at the next tick.
func (r *Registry) replaceHooks() {
	r.mu.Lock()
	r.hook = r.hooks.Fallback
	r.mu.Unlock()
	r.eachNetns(func(n lockedNetns) {
		changed, err := r.replaceHook(n)
		log := r.options.Log.With(slog.Uint64("netns", n.cookie),
			slog.String("hook", string(r.hooks.Fallback.Kind())))
		switch {
		case err != nil:
			log.Error("the hook vanished, its fallback fails: packets pass uninspected; retrying",
				slog.Any("error", err))
		case changed:
			log.Warn("the hook vanished; the fallback took its place",
				slog.String("vanished", string(r.hooks.Hook.Kind())))
		}
	})
}

// replaceHook puts the fallback in place of another hook.
func (r *Registry) replaceHook(n lockedNetns) (changed bool, err error) {
	if n.datapath == nil {
		return false, nil
	}
	changed, err = n.datapath.ReplaceHook(r.hooks.Fallback)
	if changed {
		err = errors.Join(err, r.recordHook(n))
	}
	return changed, err
}

// recordHook writes the hook of a netns into its members' records.
func (r *Registry) recordHook(n lockedNetns) error {
	var errs []error
	for key := range n.members {
		r.mu.Lock()
		a := r.attachments[key]
		a.record.Hook = string(n.datapath.Hook())
		rec := a.record
		r.mu.Unlock()
		errs = append(errs, r.options.Store.Save(rec))
	}
	return errors.Join(errs...)
}
