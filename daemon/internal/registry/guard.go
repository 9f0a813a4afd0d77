// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// guardInterval bounds how long pods go uninspected after their hook vanished.
const guardInterval = 250 * time.Millisecond

// Guard puts the fallback in place of a hook that is no longer present, such as
// a module that somebody unloaded, and returns when ctx ends. Without a
// fallback it has nothing to do; Check reports what is missing meanwhile.
func (r *Registry) Guard(ctx context.Context) {
	if r.hooks.Fallback == nil {
		return
	}
	tick := time.NewTicker(guardInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !r.hooks.Hook.Present() {
			r.fallBack()
		}
	}
}

// fallBack arms the fallback wherever the vanished hook is still in use. What
// fails is tried again at the next tick.
func (r *Registry) fallBack() {
	r.mu.Lock()
	r.hook = r.hooks.Fallback
	r.mu.Unlock()
	r.eachBinding(func(b *binding) {
		b.mu.Lock()
		changed, err := r.rehook(b)
		b.mu.Unlock()
		log := r.options.Log.With(slog.Uint64("netns", b.cookie),
			slog.String("hook", string(r.hooks.Fallback.Kind())))
		switch {
		case err != nil:
			log.Error("vanished hook not replaced", slog.Any("error", err))
		case changed:
			log.Warn("hook vanished and was replaced",
				slog.String("vanished", string(r.hooks.Hook.Kind())))
		}
	})
}

// rehook puts the fallback in place of another hook. The caller holds b.mu.
func (r *Registry) rehook(b *binding) (changed bool, err error) {
	if b.parts == nil {
		return false, nil
	}
	changed, err = b.parts.ReplaceHook(r.hooks.Fallback)
	if changed {
		err = errors.Join(err, r.recordHook(b))
	}
	return changed, err
}

// recordHook writes the binding's hook into its members' records. The caller
// holds b.mu.
func (r *Registry) recordHook(b *binding) error {
	var errs []error
	for key := range b.members {
		r.mu.Lock()
		a := r.attachments[key]
		a.record.Hook = string(b.parts.Hook())
		rec := a.record
		r.mu.Unlock()
		errs = append(errs, r.options.Store.Save(rec))
	}
	return errors.Join(errs...)
}
