// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/datapath"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/kernel"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// Each netns has a generation of settled flows. Another one has all of them inspected
// again. It is recorded with a digest of what decides about the flows, before the kernel
// has it, so that a daemon that finds the record of another generation than the kernel's
// keeps nothing.

// settleSetting is how flows of the netns are to be settled.
func (r *Registry) settleSetting(n lockedNetns) hook.Settle {
	s := r.options.Settle
	if s.On() {
		s.Generation = n.settled.Generation
	}
	return s
}

// beginSettling chooses the generation of a netns that is brought up, and reports whether
// flows that an earlier daemon has settled stay so: by the same rules and the same hook.
func (r *Registry) beginSettling(
	n lockedNetns, label *inspect.Attachment, rec *state.Record, kind hook.Kind,
) (keep bool) {
	now := state.Settled{Rules: r.rulesOf(label)}
	if last := rec.Settled; last != nil && last.Generation <= hook.MaxGeneration {
		now.Generation = last.Generation
		keep = now.Generation > 0 && now.Rules != "" && now.Rules == last.Rules &&
			rec.Hook == string(kind)
	}
	if !keep {
		now.Generation = nextGeneration(now.Generation)
	}
	n.settled = now
	return keep
}

func nextGeneration(g uint8) uint8 { return g%hook.MaxGeneration + 1 }

// rulesOf returns a digest of what decides that flows of the label are settled; empty
// where it is not known.
func (r *Registry) rulesOf(label *inspect.Attachment) string {
	digest := r.told.digestOf(label)
	if digest == "" {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", r.options.SettleAfter, digest))
	return fmt.Sprintf("%x", sum[:16])
}

// settledRecord is what records say of settled flows.
func (n lockedNetns) settledRecord() *state.Settled {
	settled := n.settled
	return &settled
}

// Unsettle has all settled flows inspected again, because what decided about them
// has changed.
func (r *Registry) Unsettle() error {
	return sideBySide(r.withLabels(nil), func(n lockedNetns) error {
		if n.datapath == nil {
			return nil
		}
		r.advance(n, r.rulesOf(n.datapath.Label()))
		return n.datapath.Rearm(r.settleSetting(n))
	})
}

// Change carries out what the inspector says of its rules. See [inspect.Change].
func (r *Registry) Change(c *inspect.Change) error {
	concerned := r.withLabels(c.Attachments)
	err := r.widen(concerned)
	r.told.apply(c)
	if c.Attachments == nil {
		concerned = r.withLabels(nil) // some have come meanwhile
	}
	return errors.Join(err, sideBySide(concerned, r.adapt))
}

// widen has the kernel copy what packets need by the rules to come, too, and returns
// when none waits of which it has copied less.
func (r *Registry) widen(all []*podNetns) error {
	if r.told.declarer == nil {
		return nil
	}
	var errs []error
	var wider []*podNetns
	for _, n := range all {
		locked := n.lock()
		if d := locked.current(); d != nil {
			changed, err := d.Widen()
			if errs = append(errs, err); changed {
				wider = append(wider, n)
			}
		}
		locked.unlock()
	}
	if wider == nil {
		return errors.Join(errs...)
	}
	errs = append(errs, kernel.GracePeriod())
	deadline := time.Now().Add(datapath.DrainLimit)
	for _, n := range wider {
		locked := n.lock()
		if d := locked.current(); d != nil {
			errs = append(errs, d.AwaitAnswers(d.Netns(), deadline))
		}
		locked.unlock()
	}
	return errors.Join(errs...)
}

// adapt has the kernel do what the rules of now need, and flows that other rules have
// settled inspected again.
func (r *Registry) adapt(n lockedNetns) error {
	d := n.current()
	if d == nil {
		return nil
	}
	if n.datapath != nil {
		rules := r.rulesOf(d.Label())
		if rules == "" || rules != n.settled.Rules {
			r.advance(n, rules)
		}
	}
	return errors.Join(r.adaptPrograms(n), d.Adapt(r.settleSetting(n)))
}

// advance gives the netns another generation, and records it before the kernel has it.
func (r *Registry) advance(n lockedNetns, rules string) {
	n.settled = state.Settled{Generation: nextGeneration(n.settled.Generation), Rules: rules}
	r.saveMembers(n, func(rec *state.Record) bool {
		rec.Settled = n.settledRecord()
		return true
	}, func(log *slog.Logger, err error) {
		log.Warn("cannot save a state file; settled flows will be inspected again after a restart",
			slog.Any("error", err))
	})
}

// withLabels returns the netns that the inspector knows by one of the labels; nil means
// by any.
func (r *Registry) withLabels(labels []*inspect.Attachment) []*podNetns {
	wanted := make(map[*inspect.Attachment]bool, len(labels))
	for _, l := range labels {
		wanted[l] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []*podNetns
	for _, n := range r.netns {
		label := n.label.Load()
		if label != nil && (labels == nil || wanted[label]) {
			found = append(found, n)
		}
	}
	return found
}

// sideBySide calls fn for each netns, locked, for some of them at a time: the kernel has
// them wait for the same grace periods.
func sideBySide(all []*podNetns, fn func(lockedNetns) error) error {
	errs := make([]error, len(all))
	var running sync.WaitGroup
	turns := make(chan struct{}, restoringAtATime)
	for i, n := range all {
		turns <- struct{}{}
		running.Go(func() {
			defer func() { <-turns }()
			locked := n.lock()
			defer locked.unlock()
			errs[i] = fn(locked)
		})
	}
	running.Wait()
	return errors.Join(errs...)
}
