// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/internal/dirwatch"
	"github.com/nsqueue/nsqueue/internal/spool"
)

// interval is how often the spool is looked at without a sign that there is
// something in it: for entries that could not be carried out, and for a
// directory that was made again.
const interval = 10 * time.Second

// Run replays the spool whenever something is put into it, until ctx ends. What
// is being carried out is finished before it returns.
func (s *Sequencer) Run(ctx context.Context) { s.runEvery(ctx, interval) }

func (s *Sequencer) runEvery(ctx context.Context, interval time.Duration) {
	w, err := dirwatch.New(ctx, unix.IN_MOVED_TO|unix.IN_DONT_FOLLOW) // files that get their names
	if err != nil {
		s.log.Warn("cannot watch the spool; looking at it from time to time instead",
			slog.Duration("interval", interval), slog.Any("error", err))
	}
	defer w.Close()
	logged := ""
	for ctx.Err() == nil {
		text := ""
		if err := s.look(ctx, w); err != nil {
			text = err.Error()
		}
		if text != "" && text != logged && ctx.Err() == nil {
			s.log.Error("cannot carry out spooled calls; trying again",
				slog.Duration("interval", interval), slog.String("error", text))
		}
		logged = text
		w.Wait(ctx, interval, anything)
	}
}

// look is Replay, with the directory watched before: nothing can be missed
// between the two.
func (s *Sequencer) look(ctx context.Context, w *dirwatch.Watch) error {
	dir, err := spool.Open(s.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return errors.Join(w.Add(s.path), s.replay(ctx, dir))
}

// anything: what the events say does not matter, a look at the directory tells
// more.
func anything(dirwatch.Event) bool { return true }
