// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/fault"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/succession"
)

const (
	// seekEvery is how often the active supervisor, or the lock, is tried.
	seekEvery = 20 * time.Millisecond
	// seekBusy is how long to leave an active supervisor alone that is busy.
	seekBusy = 500 * time.Millisecond
	// seekRefused is that for a standby that was refused.
	seekRefused = 10 * time.Second
	// seekFor is how long whoever has the lock may not listen.
	seekFor = 30 * time.Second
)

// seek takes the lock, or connects to the supervisor that has it. What was held before
// is closed by then: a daemon that starts from the state files needs the queues.
func (h *shared) seek(now time.Time) {
	h.seekAt = time.Time{}
	if h.s.store.closer.busy() {
		h.seekAt = now.Add(seekEvery)
		return
	}
	lock, err := succession.TryLock(h.s.config.HandoverDir)
	switch {
	case err == nil:
		h.activateAlone(lock, now)
		return
	case !errors.Is(err, succession.ErrHeld):
		h.fail(fmt.Errorf("hand-over directory: %w", err))
		return
	}
	conn, err := succession.Dial(h.s.config.HandoverDir)
	if err != nil {
		h.seekAgain(err, now)
		return
	}
	h.seekUntil = time.Time{}
	taker, steps := succession.NewTaker(h.self, h.limits(), h.times, h.standby, now)
	h.active = &upstream{conn: conn, taker: taker, since: time.Now()}
	h.take(steps, now)
	h.at(fault.TakeConnected)
}

// seekAfter looks for the active supervisor anew, after what has been said.
func (h *shared) seekAfter(step *succession.Step, now time.Time) {
	h.active = nil
	h.become(h.passive())
	h.seekAt = now
	if step.Reason == "" {
		return
	}
	h.s.log.Warn("the active supervisor is left alone for now", slog.String("reason", step.Reason))
	h.seekAt = now.Add(seekBusy)
	if step.Refused {
		h.seekAt = now.Add(seekRefused)
	}
}

// seekAgain tries again later: the one with the lock may be about to listen, or its
// lock is about to go.
func (h *shared) seekAgain(err error, now time.Time) {
	if h.seekUntil.IsZero() {
		h.seekUntil = now.Add(seekFor)
	}
	h.seekAt = now.Add(seekEvery)
	if now.Before(h.seekUntil) {
		return
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED),
		errors.Is(err, succession.ErrAgain):
		err = fmt.Errorf("a process holds the lock in %s and hands nothing over; it may be "+
			"stopped, or about to end: %w", h.s.config.HandoverDir, err)
	}
	if !h.standby {
		h.fail(err)
		return
	}
	h.s.log.Error("cannot connect to the active supervisor; trying again", slog.Any("error", err))
	h.seekUntil = now.Add(seekFor)
}

// limits are what this process can take over.
func (h *shared) limits() succession.Limits {
	l := succession.Limits{Descriptors: h.s.config.MaxDescriptors}
	// The Go runtime has raised the soft limit to the hard one, and gives its children
	// the old one back.
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil {
		l.Files = files.Cur
	}
	return l
}

func (h *shared) fail(err error) {
	h.s.log.Error("cannot take over", slog.Any("error", err))
	h.failed = err
	h.s.stopWorker()
}

// keep takes over the descriptors of a message.
func (h *shared) keep(m *succession.Message, fds []int) error {
	comes := h.active.taker.Comes(m.Kind)
	switch {
	case comes && m.Kind == succession.Forget:
		return h.s.store.forget(m.Positions)
	case comes:
		for i, name := range m.Names {
			h.s.store.add(name, fds[i])
		}
	case m.Kind == succession.All && h.active.taker.Taking():
		lock, err := succession.AdoptLock(h.s.config.HandoverDir, fds[0])
		if err != nil {
			succession.CloseAll(fds)
			return err
		}
		h.handed = lock
	default:
		succession.CloseAll(fds)
	}
	return nil
}

// take does what the taker says.
func (h *shared) take(steps []succession.Step, now time.Time) {
	for i := range steps {
		h.takeStep(&steps[i], now)
	}
	if h.active != nil && h.active.taker.Standing() {
		h.become(succession.Standby)
	}
}

func (h *shared) takeStep(step *succession.Step, now time.Time) {
	switch step.Do {
	case succession.Send:
		h.sendUpstream(&step.Message)
	case succession.Prepare:
		h.prepare(now)
	case succession.Show:
		h.show(now)
	case succession.Deliver:
		h.become(succession.Taking)
		h.s.deliver(now)
		h.at(fault.TakeDelivered)
	case succession.Claim:
		h.take(h.active.taker.Claimed(h.s.worker.lease.Claim(), now), now)
	case succession.EndDaemon:
		h.endDaemon(now)
	case succession.Discard:
		h.discard(now)
	case succession.Activate:
		h.takeOvers++
		h.activateWith(h.handed, now)
	case succession.HangUp:
		h.active.conn.Close()
		h.active.conn = nil
	case succession.Seek:
		h.seekAfter(step, now)
	case succession.Fail:
		h.active = nil
		h.become(h.passive())
		h.fail(errors.New(step.Reason))
	}
}

// sendUpstream sends a short message, for which there is room. That the other side is
// gone is found out by reading.
func (h *shared) sendUpstream(m *succession.Message) {
	var fds []int
	if m.Kind == succession.Take {
		read, write := h.s.worker.lease.Ends()
		fds = []int{read, write}
	}
	if err := h.active.conn.Send(m, fds...); err != nil {
		h.s.log.Warn("cannot send to the active supervisor",
			slog.String("message", string(m.Kind)), slog.Any("error", err))
	}
	switch m.Kind {
	case succession.Take:
		h.at(fault.TakeSent)
	case succession.Have:
		h.at(fault.TakeHave)
	case succession.Ready:
		h.at(fault.TakeReady)
	}
}

// atReceived passes the points of messages that were received.
func (h *shared) atReceived(kind succession.Kind) {
	switch kind {
	case succession.Offer:
		h.at(fault.TakeOffered)
	case succession.Descriptors:
		h.at(fault.TakeDescriptors)
	case succession.Copied:
		h.at(fault.TakeCopied)
	case succession.All:
		h.at(fault.TakeAll)
	case succession.Noted: // what was prepared for another one that has ended
		h.s.stopWorker()
	}
}

// prepare starts a daemon that waits for descriptors. One that was prepared for an
// active supervisor that has ended does as well.
func (h *shared) prepare(now time.Time) {
	h.become(succession.Taking)
	if w := h.s.worker; w != nil {
		if w.prepared {
			h.take(h.active.taker.Prepared(now), now)
		}
		return
	}
	h.s.log.Info("taking over: preparing a daemon", identity(h.active.taker.Peer)...)
	w, err := h.s.spawnWaiting(now)
	if err != nil {
		h.take(h.active.taker.DaemonEnded(err.Error()), now)
		return
	}
	h.s.worker = w
}

// spawnWaiting starts a daemon that inherits nothing so far.
func (s *supervisor) spawnWaiting(now time.Time) (*worker, error) {
	ours, theirs, err := succession.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	w := &worker{started: now, deadline: now.Add(s.config.StartTimeout), waiting: ours}
	err = s.execute(w, nil, map[string]int{fdstore.EnvDescriptors: theirs.FD()})
	return w, err
}

// deliver sends the daemon that waits all that is in the store.
func (s *supervisor) deliver(now time.Time) {
	w := s.worker
	w.deadline, w.delivered = now.Add(s.config.StartTimeout), true
	w.outbox = succession.NewOutbox(&w.mirror, s.store.named, succession.Message{
		Kind: succession.Start, Alone: s.shared.role == succession.Active,
	})
	s.log.Info("daemon started", slog.Int("pid", w.pid), slog.Int("restarts", s.restarts),
		slog.Int("descriptors", len(s.store.held)))
	s.shared.flushDaemon()
}

// show has the daemon that waits look at what is in the store, as it is now.
func (h *shared) show(now time.Time) {
	w := h.s.worker
	w.deadline = now.Add(h.s.config.StartTimeout)
	if w.outbox == nil { // else the daemon has not been asked so far
		w.looks++
	}
	w.outbox = succession.NewOutbox(&w.mirror, h.s.store.named, succession.Message{
		Kind: succession.Copied,
	})
	h.flushDaemon()
}

// seen goes on when the daemon has looked.
func (h *shared) seen(now time.Time) {
	if h == nil || h.s.worker.looks == 0 {
		return
	}
	w := h.s.worker
	w.looks--
	if w.looks > 0 || w.delivered {
		return
	}
	w.deadline = time.Time{}
	if h.active != nil {
		h.at(fault.TakeSeen)
		h.take(h.active.taker.Seen(now), now)
	}
}

// flushDaemon sends the daemon what there is room for.
func (h *shared) flushDaemon() {
	w := h.s.worker
	if w == nil || w.outbox == nil {
		return
	}
	done, err := w.outbox.Flush(w.waiting)
	if err != nil { // it ends, which is found out by itself
		h.s.log.Warn("cannot hand descriptors to the daemon", slog.Any("error", err))
	}
	if done || err != nil {
		w.outbox = nil
	}
	if w.delivered && done || err != nil {
		w.waiting.Close()
		w.waiting = nil
	}
}

// prepared goes on when the daemon waits for descriptors.
func (h *shared) prepared(now time.Time) {
	if h == nil || h.s.worker.waiting == nil {
		return
	}
	w := h.s.worker
	w.prepared, w.deadline = true, time.Time{}
	h.at(fault.TakePrepared)
	switch {
	case h.role == succession.Active: // it has become that meanwhile
		h.s.deliver(now)
	case h.active != nil:
		h.take(h.active.taker.Prepared(now), now)
	}
}

// daemonReady goes on when the daemon serves.
func (h *shared) daemonReady() {
	if h == nil || h.active == nil {
		return
	}
	h.at(fault.TakeServing)
	h.take(h.active.taker.DaemonReady(), time.Now())
}

// daemonEnded goes on after the end of a daemon, and reports whether that was part of
// a hand-over.
func (h *shared) daemonEnded(w *worker, how string, now time.Time) bool {
	switch {
	case h == nil:
		return false
	case h.role == succession.Giving:
		h.s.log.Info("daemon stopped", slog.Int("pid", w.pid), slog.String("status", how))
		h.daemonStopped(now)
		return true
	case h.role == succession.Active:
		if !w.told {
			return false
		}
		h.s.start() // the hand-over was aborted meanwhile
		return true
	}
	h.s.log.Info("daemon ended", slog.Int("pid", w.pid), slog.String("status", how))
	if w.status != "" {
		how += ": " + w.status
	}
	if h.active != nil {
		h.take(h.active.taker.DaemonEnded(how), now)
	}
	return true
}

func (h *shared) endDaemon(now time.Time) {
	if h.s.worker == nil {
		h.take(h.active.taker.DaemonEnded(""), now)
		return
	}
	h.s.stopWorker()
}

// discard closes what has come, a daemon that waits first. The giver has copies, or is
// gone.
func (h *shared) discard(now time.Time) {
	h.s.store.close()
	if w := h.s.worker; w != nil && w.waiting != nil && w.killAt.IsZero() {
		h.show(now)
	}
	if h.handed != nil {
		h.handed.Close()
		h.handed = nil
	}
}

func (h *shared) passive() succession.Role {
	if h.standby {
		return succession.Standby
	}
	return succession.Fresh
}

// activateAlone goes on where no other supervisor is: from the state files.
func (h *shared) activateAlone(lock *succession.Lock, now time.Time) {
	h.activateWith(lock, now)
	switch w := h.s.worker; {
	case w == nil:
		h.s.start()
	case w.prepared:
		h.s.deliver(now)
	}
}

// activateWith makes this supervisor the active one. The one that has given to it is
// its standby.
func (h *shared) activateWith(lock *succession.Lock, now time.Time) {
	h.lock, h.handed = lock, nil
	if err := lock.Name(h.self.Instance); err != nil {
		h.s.log.Warn("the lock does not tell whose it is", slog.Any("error", err))
	}
	h.refusals, h.lastRefusal = 0, nil
	h.standby, h.seekUntil = false, time.Time{}
	if a := h.active; a != nil && a.conn != nil {
		h.peers = append(h.peers, &peer{
			conn: a.conn, since: time.Now(),
			giver: succession.GiverOf(h.self, a.taker.Peer, h.times),
		})
	}
	h.active = nil
	h.become(succession.Active)
	h.listen(now)
}
