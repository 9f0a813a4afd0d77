// SPDX-License-Identifier: Apache-2.0

package evesink

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// worker is what the sink's goroutine keeps between two turns.
type worker struct {
	*Sink

	batch   []byte // taken out of the queue
	rest    []byte // the part of the batch that is not written
	pause   time.Duration
	failing bool
}

func (s *Sink) run() {
	defer close(s.done)
	w := &worker{Sink: s}
	for w.turn() {
	}
	if err := s.out.close(); err != nil {
		s.closeErr = errors.Join(s.closeErr, fmt.Errorf("close events: %w", err))
	}
}

// turn writes what there is, or waits for it. It returns false at the end.
func (w *worker) turn() bool {
	reopen, closing := w.take()
	if len(w.rest) == 0 && !reopen {
		if closing {
			return false
		}
		w.wait()
		return true
	}
	usable, err := w.out.ready(reopen)
	if err == nil || usable {
		err = errors.Join(err, w.write())
	}
	w.outcome(err)
	if err == nil || usable && len(w.rest) == 0 {
		return true
	}
	if closing {
		w.giveUp(err)
		return false
	}
	w.waitPause()
	return true
}

// take refills the batch out of the queue.
func (w *worker) take() (reopen, closing bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) == 0 {
		w.batch, w.queue = w.queue, w.batch[:0]
		w.rest = w.batch
	}
	reopen, w.reopen = w.reopen, false
	return reopen, w.closed
}

// write writes the rest of the batch, and drops a line of which only a part was written.
func (w *worker) write() error {
	if len(w.rest) == 0 {
		return nil
	}
	n, err := w.out.write(w.rest)
	written := linesIn(w.rest[:n])
	var dropped uint64
	if n > 0 && w.rest[n-1] != '\n' {
		n += bytes.IndexByte(w.rest[n:], '\n') + 1
		dropped = 1
	}
	w.rest = w.rest[n:]
	w.count(func(s *Stats) { s.Written += written; s.Dropped += dropped })
	return err
}

// outcome tells the log of the first failure and of the first success after it.
func (w *worker) outcome(err error) {
	if err == nil {
		w.pause = 0
		if w.failing {
			w.failing = false
			w.log.Info("events are written again")
		}
		return
	}
	w.count(func(s *Stats) { s.Failures++ })
	w.pause = min(maxPause, max(firstPause, 2*w.pause))
	if !w.failing {
		w.failing = true
		w.log.Warn("events are not written", slog.Any("err", err))
	}
}

// giveUp drops all that waits.
func (w *worker) giveUp(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := linesIn(w.rest) + linesIn(w.queue)
	w.rest, w.queue = nil, nil
	w.stats.Dropped += n
	w.closeErr = fmt.Errorf("%d events are lost: %w", n, err)
}

// wait waits for lines or a call.
func (w *worker) wait() {
	select {
	case <-w.wake:
	case <-w.poke:
	}
}

// waitPause waits until it is time to try again, or for a call: lines do not shorten it.
func (w *worker) waitPause() {
	timer := time.NewTimer(w.pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.poke:
	}
}
