// SPDX-License-Identifier: Apache-2.0

package conflist

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nsqueue/nsqueue/internal/dirwatch"
)

const (
	// lookAgain is when a directory is looked at though nothing seems to have
	// happened: while the first configuration is missing, or one is being written.
	lookAgain = time.Second
	// writing is how long a file may be invalid, because who writes it may not
	// have finished.
	writing = time.Second
)

// First calls Install, or Plan, for a directory that may be empty yet: it waits
// for the first configuration, and for one that is being written, until ctx
// ends. It tells waiting what it waits for, at each look.
func (i *Installer) First(
	ctx context.Context, install func() (*Plan, error), waiting func(error),
) (*Plan, error) {
	w, _ := newWatch(ctx, edited) // without, the clock will do
	defer w.Close()
	var invalid time.Time
	for {
		if err := w.add(i.Dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		p, err := install()
		limit := lookAgain
		switch {
		case errors.Is(err, ErrNoConfig):
			invalid = time.Time{}
		case errors.Is(err, ErrInvalid):
			if invalid.IsZero() {
				invalid = time.Now()
			}
			if limit = writing - time.Since(invalid); limit <= 0 {
				return nil, err
			}
		default:
			return p, err
		}
		waiting(err)
		w.wait(ctx, limit)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w (%w)", err, ctx.Err())
		}
	}
}

// Keeper keeps the entry where it is. Others rewrite configurations: flannel at
// each start of its pod, k3s at its own.
type Keeper struct {
	Installer *Installer
	// Look is how often it looks though nothing seems to have happened.
	Look time.Duration
	// Fight says when it gives way for a while.
	Fight Fight
	// Repaired is called after something was repaired, Failed when it could not
	// be, and again when the reason is another one, Looked after each look that
	// found nothing to do.
	Repaired func(ctx context.Context, p *Plan)
	Failed   func(error)
	Looked   func(ctx context.Context)
	// GaveWay is called when it will not look again for that long, because
	// something rewrites the configuration as often as it repairs it.
	GaveWay func(p *Plan, repairs int, pause time.Duration)
}

// Run repairs until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	w, err := newWatch(ctx, edited)
	if err != nil {
		k.Failed(fmt.Errorf("watch %s, it is looked at every %v: %w", k.Installer.Dir, k.Look, err))
	}
	defer w.Close()
	var broken complaint
	for ctx.Err() == nil {
		p, err := k.look(w)
		limit := k.Look
		switch {
		case err != nil:
			if broken.is(err, time.Now()) {
				k.Failed(err)
			}
			limit = min(limit, lookAgain)
		case len(p.Changes) == 0:
			broken = complaint{}
			k.Looked(ctx)
		default:
			broken = complaint{}
			k.Repaired(ctx, p)
		}
		if p != nil && len(p.Changes) > 0 {
			if d := k.Fight.repaired(time.Now()); d > 0 {
				k.GaveWay(p, k.Fight.repairs, d)
				dirwatch.Pause(ctx, d)
			}
			continue // what happened before everything was watched is seen now
		}
		w.wait(ctx, limit)
	}
	return nil
}

// complaint is what does not work, and since when.
type complaint struct {
	text  string
	since time.Time
	told  bool
}

// is notes an error, and says whether it is time to tell it: once, and where it
// may be that somebody is writing, not at once.
func (c *complaint) is(err error, now time.Time) bool {
	if c.text != err.Error() {
		*c = complaint{text: err.Error(), since: now}
	}
	passes := errors.Is(err, ErrInvalid) || errors.Is(err, ErrNoConfig) ||
		errors.Is(err, ErrChanged)
	if c.told || passes && now.Sub(c.since) < writing {
		return false
	}
	c.told = true
	return true
}

// look watches what there is to be watched, and then repairs.
func (k *Keeper) look(w *watch) (*Plan, error) {
	i := k.Installer
	if err := w.add(i.Dir); err != nil {
		return nil, err
	}
	p, err := i.Install()
	if err != nil || p.Active == "" {
		return p, err
	}
	// The file may be a link to one elsewhere, or the entry in one of its own.
	if target, err := filepath.EvalSymlinks(p.Active); err == nil {
		if err := w.add(filepath.Dir(target)); err != nil {
			return p, err
		}
	}
	if p.Mode == DropIn {
		return p, w.add(filepath.Join(i.Dir, p.Network))
	}
	return p, nil
}

// Fight finds out whether somebody undoes each repair. More repairs than Most
// within a Window are too many; the first pause is then Pause long, and each is
// twice as long as the one before, up to Longest, until it has been quiet for a
// Window.
type Fight struct {
	Most    int
	Window  time.Duration
	Pause   time.Duration
	Longest time.Duration

	times   []time.Time // of the repairs within the last window
	repairs int         // since it began
	pause   time.Duration
	until   time.Time
}

// DefaultFight allows for a network that is being installed, which rewrites its
// file a few times.
func DefaultFight() Fight {
	return Fight{Most: 5, Window: time.Minute, Pause: 10 * time.Second, Longest: 5 * time.Minute}
}

// repaired notes a repair, and returns how long to pause.
func (f *Fight) repaired(now time.Time) time.Duration {
	if f.pause > 0 && now.Sub(f.until) > f.Window {
		f.pause, f.times = 0, nil
	}
	f.times = append(f.times, now)
	for f.times[0].Before(now.Add(-f.Window)) {
		f.times = f.times[1:]
	}
	switch {
	case f.pause > 0:
		f.repairs++
		f.pause = min(2*f.pause, f.Longest)
	case len(f.times) > f.Most:
		f.repairs = len(f.times)
		f.pause = f.Pause
	}
	f.until = now.Add(f.pause)
	return f.pause
}
