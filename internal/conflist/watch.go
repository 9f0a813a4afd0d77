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
	// retryInterval is the time between two checks without an event, while the first
	// configuration is missing or one is being written.
	retryInterval = time.Second
	// writeTime is how long a file may be invalid: the program that writes it may not
	// have finished.
	writeTime = time.Second
)

// InstallWhenReady calls install, which is [Installer.Install] or [Installer.Plan],
// for a directory that may still be empty. It waits for the first configuration,
// and for one that is being written, until ctx ends. It calls waiting with the
// reason each time it waits.
func (i *Installer) InstallWhenReady(
	ctx context.Context, install func() (*Plan, error), waiting func(error),
) (*Plan, error) {
	w, _ := newWatch(ctx, editEvents) // without events it checks at intervals
	defer w.Close()
	var invalid time.Time
	for {
		if err := w.add(i.Dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		p, err := install()
		limit := retryInterval
		switch {
		case errors.Is(err, ErrNoConfig):
			invalid = time.Time{}
		case errors.Is(err, ErrInvalid):
			if invalid.IsZero() {
				invalid = time.Now()
			}
			if limit = writeTime - time.Since(invalid); limit <= 0 {
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

// Watcher keeps the entry installed. Other programs rewrite configurations: flannel
// at each start of its pod, k3s at its own.
type Watcher struct {
	Installer *Installer
	// Interval is the time between two checks without an event.
	Interval time.Duration
	// Backoff says when it stops repairing for a while.
	Backoff Backoff
	// Repaired is called after a repair. Failed is called when a repair fails, and
	// again when the reason changes. Checked is called after each check that found
	// nothing to repair.
	Repaired func(ctx context.Context, p *Plan)
	Failed   func(error)
	Checked  func(ctx context.Context)
	// BackedOff is called before a pause: another program undoes each repair.
	BackedOff func(p *Plan, repairs int, pause time.Duration)
}

// Run repairs until ctx ends.
func (k *Watcher) Run(ctx context.Context) error {
	w, err := newWatch(ctx, editEvents)
	if err != nil {
		k.Failed(fmt.Errorf("watch %s: %w; it is checked every %v instead",
			k.Installer.Dir, err, k.Interval))
	}
	defer w.Close()
	var last failure
	for ctx.Err() == nil {
		p, err := k.repair(w)
		limit := k.Interval
		switch {
		case err != nil:
			if last.due(err, time.Now()) {
				k.Failed(err)
			}
			limit = min(limit, retryInterval)
		case len(p.Changes) == 0:
			last = failure{}
			k.Checked(ctx)
		default:
			last = failure{}
			k.Repaired(ctx, p)
		}
		if p != nil && len(p.Changes) > 0 {
			if d := k.Backoff.repaired(time.Now()); d > 0 {
				k.BackedOff(p, k.Backoff.repairs, d)
				dirwatch.Pause(ctx, d)
			}
			continue // changes made before all directories were watched had no event
		}
		w.wait(ctx, limit)
	}
	return nil
}

// failure is the error that repairs end with, and since when.
type failure struct {
	text     string
	since    time.Time
	reported bool
}

// due reports whether an error is to be reported now: once, and not at once where
// another program may be writing the file.
func (f *failure) due(err error, now time.Time) bool {
	if f.text != err.Error() {
		*f = failure{text: err.Error(), since: now}
	}
	passes := errors.Is(err, ErrInvalid) || errors.Is(err, ErrNoConfig) ||
		errors.Is(err, ErrChanged)
	if f.reported || passes && now.Sub(f.since) < writeTime {
		return false
	}
	f.reported = true
	return true
}

// repair watches the directories of the configuration, and then installs the entry.
func (k *Watcher) repair(w *watch) (*Plan, error) {
	i := k.Installer
	if err := w.add(i.Dir); err != nil {
		return nil, err
	}
	p, err := i.Install()
	if err == nil && p.Active == "" && p.Mode == DropIn {
		return p, w.add(filepath.Join(i.Dir, p.Network))
	}
	if err != nil || p.Active == "" {
		return p, err
	}
	// The file may be a link to another directory, or the entry in a drop-in.
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

// Backoff decides how long a [Watcher] pauses when another program undoes its
// repairs. More than Most repairs within a Window begin the pauses: the first takes
// Pause, each later one twice as long, up to Longest. They end after a Window
// without a repair.
type Backoff struct {
	Most    int
	Window  time.Duration
	Pause   time.Duration
	Longest time.Duration

	times   []time.Time // of the repairs within the last window
	repairs int         // since the pauses began
	pause   time.Duration
	until   time.Time
}

// DefaultBackoff allows for the few times that a network rewrites its file while it
// is being installed.
func DefaultBackoff() Backoff {
	return Backoff{Most: 5, Window: time.Minute, Pause: 10 * time.Second, Longest: 5 * time.Minute}
}

// repaired notes a repair, and returns how long to pause.
func (f *Backoff) repaired(now time.Time) time.Duration {
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
