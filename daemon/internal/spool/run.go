// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/internal/dirwatch"
	"github.com/nsqueue/nsqueue/internal/spool"
)

// interval is when the spool is looked at though nobody has said that there is
// something in it: for entries that could not be carried out, and for a
// directory that was made anew.
const interval = 10 * time.Second

// Run drains the spool whenever something is put into it, until ctx ends. What
// is being carried out is finished before it returns.
func (d *Drain) Run(ctx context.Context) { d.runEvery(ctx, interval) }

func (d *Drain) runEvery(ctx context.Context, interval time.Duration) {
	w, err := dirwatch.New(ctx, unix.IN_MOVED_TO|unix.IN_DONT_FOLLOW) // files that get their names
	if err != nil {
		d.log.Warn("spool not watched, only looked at from time to time", slog.Any("error", err))
	}
	defer w.Close()
	said := ""
	for ctx.Err() == nil {
		text := ""
		if err := d.look(ctx, w); err != nil {
			text = err.Error()
		}
		if text != "" && text != said && ctx.Err() == nil {
			d.log.Error("spool not drained", slog.String("error", text))
		}
		said = text
		w.Wait(ctx, interval, anything)
	}
}

// look is Once, with the directory watched before: nothing can be missed
// between the two.
func (d *Drain) look(ctx context.Context, w *dirwatch.Watch) error {
	dir, err := spool.Open(d.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return errors.Join(w.Add(d.path), d.drain(ctx, dir))
}

// anything: what the events say does not matter, a look at the directory tells
// more.
func anything([]byte) bool { return true }
