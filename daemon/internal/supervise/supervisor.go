// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// goal is what the supervisor works towards.
type goal int

const (
	toRun goal = iota
	toStop
	toUpgrade
)

// supervisor is one loop over notifications, signals and deadlines.
type supervisor struct {
	config     Config
	executable string
	log        *slog.Logger

	socket  *socket
	state   stateSocket
	oom     oomScore
	signals *signals
	store   store
	backoff backoff
	shared  *shared // nil without a hand-over directory

	goal     goal
	worker   *worker   // nil while none runs
	startAt  time.Time // of the next worker, where none runs
	restarts int
	// upgraded: this version has not had a daemon that was ready yet.
	upgraded bool
	// code is the exit code of the last worker.
	code int
}

// open takes over what the version before had, or begins with nothing.
func (s *supervisor) open(before *handover) error {
	s.backoff = backoff{max: s.config.MaxDeaths, window: s.config.DeathWindow}
	s.store.capacity = s.config.MaxDescriptors
	s.store.closer = newCloser()
	var err error
	if before == nil {
		s.socket, err = listenSocket(s.config.RuntimeDir)
	} else {
		s.socket = &socket{fd: before.Socket, path: before.Path}
		for _, h := range before.Held {
			s.store.add(h.Name, h.FD)
		}
		s.restarts, s.upgraded = before.Restarts, true
		err = s.inherit(false)
	}
	if err == nil {
		if s.signals, err = openSignals(); err != nil {
			s.socket.close()
		}
	}
	if err != nil {
		s.store.closer.close()
		return err
	}
	if s.config.HandoverDir != "" {
		s.shared = newShared(s)
	}
	if s.state, err = openState(s.config.RuntimeDir); err != nil {
		s.log.Error("nobody can ask this supervisor whether it is ready", slog.Any("error", err))
	}
	s.oom = oomScore{proc: "/proc"}
	s.oom.lower(s.log)
	return nil
}

func (s *supervisor) close() {
	s.signals.close()
	s.state.close()
	s.socket.close()
	s.store.close()
	s.store.closer.close()
	s.shared.close() // after all else: who has the lock then finds nothing in use
}

// start starts a worker now, or plans to try again.
func (s *supervisor) start() {
	now := time.Now()
	w, err := s.spawn(now)
	if err != nil {
		s.log.Error("cannot start the daemon; trying again", slog.Any("error", err))
		s.code = 1
		s.plan(now, 0)
		return
	}
	s.worker = w
	s.log.Info("daemon started", slog.Int("pid", w.pid), slog.Int("restarts", s.restarts),
		slog.Int("descriptors", len(s.store.held)))
}

// serve runs until there is nothing left to do.
func (s *supervisor) serve() error {
	for {
		if err := s.wait(); err != nil {
			return err
		}
		caught, err := s.signals.take()
		if err != nil {
			return err
		}
		if err := s.receiveAll(); err != nil {
			return err
		}
		if err := s.reap(); err != nil {
			return err
		}
		s.shared.receive(time.Now())
		for _, sig := range caught {
			if err := s.handle(sig); err != nil {
				return err
			}
		}
		now := time.Now()
		if done, err := s.proceed(now); done {
			return err
		}
		s.tellState(now)
	}
}

// wait returns when something has arrived, or something is due.
func (s *supervisor) wait() error {
	fds := []unix.PollFd{
		{Fd: int32(s.signals.read), Events: unix.POLLIN},
		{Fd: int32(s.socket.fd), Events: unix.POLLIN},
		{Fd: s.state.pollFD(), Events: unix.POLLIN},
	}
	fds = s.shared.poll(fds)
	timeout := -1
	due := sooner(sooner(s.due(), s.state.restUntil), s.shared.due())
	if !due.IsZero() {
		timeout = max(0, int(time.Until(due)/time.Millisecond)+1)
	}
	if _, err := unix.Poll(fds, timeout); err != nil && !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("poll", err)
	}
	return nil
}

// due is the next time at which there is something to do by the clock.
func (s *supervisor) due() time.Time {
	if s.worker == nil {
		if !s.shared.serves() {
			return time.Time{}
		}
		return s.startAt
	}
	if !s.worker.killAt.IsZero() {
		return s.worker.killAt
	}
	return s.worker.deadline
}

// receiveAll handles all notifications that have arrived.
func (s *supervisor) receiveAll() error {
	for {
		d, ok, err := s.socket.receive()
		if !ok || err != nil {
			return err
		}
		if s.worker == nil || int(d.pid) != s.worker.pid {
			s.store.closer.add(d.fds...)
			s.log.Debug("notification from another process ignored", slog.Int("pid", int(d.pid)))
			continue
		}
		s.notified(d)
	}
}

// notified handles what the worker says.
func (s *supervisor) notified(d datagram) {
	m, err := parseMessage(d.data)
	if err != nil || !m.store {
		s.store.closer.add(d.fds...)
	}
	switch {
	case err != nil:
		s.log.Warn("cannot read a notification of the daemon; ignoring it", slog.Any("error", err))
		return
	case m.store && d.lost:
		s.log.Error("descriptors lost at the limit of open files: these pods lose queued packets " +
			"at a restart; raise the limit (LimitNOFILE=, ulimit -n)")
	}
	switch {
	case m.store:
		if err := s.store.put(m.name, d.fds); err != nil {
			s.log.Error("descriptors not stored: these pods lose queued packets at a restart",
				slog.Any("error", err))
		}
	case m.remove:
		s.store.remove(func(name string) bool { return name == m.name })
	}
	if m.status != "" {
		s.worker.status = m.status
	}
	now := time.Now()
	if m.ready {
		s.ready(m.status)
	}
	if m.ready || m.alive {
		s.worker.alive(now, s.config.Watchdog)
	}
	if m.trigger {
		s.worker.deadline = now
	}
	if m.prepared {
		s.shared.prepared(now)
	}
	if m.seen {
		s.shared.seen(now)
	}
}

func (s *supervisor) ready(status string) {
	s.worker.ready = true
	s.log.Info("daemon ready", slog.Int("pid", s.worker.pid), slog.String("status", status))
	s.upgraded = false
	s.shared.daemonReady()
}

// reap collects every child that has ended: as a container's init, this
// process gets those of others, too.
func (s *supervisor) reap() error {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD), err == nil && pid == 0:
			return nil
		case err != nil:
			return os.NewSyscallError("wait4", err)
		}
		if s.worker != nil && pid == s.worker.pid {
			// What it said last arrived before its death did.
			if err := s.receiveAll(); err != nil {
				return err
			}
			s.died(status)
		}
	}
}

// died handles the worker's end, wanted or not.
func (s *supervisor) died(status unix.WaitStatus) {
	now, w := time.Now(), s.worker
	s.worker = nil
	var text string
	w.close()
	text, s.code = ending(status)
	if s.goal != toRun {
		s.log.Info("daemon stopped", slog.Int("pid", w.pid), slog.String("status", text))
		return
	}
	if s.shared.daemonEnded(w, text, now) {
		return
	}
	s.log.Error("daemon died", slog.Int("pid", w.pid), slog.String("status", text))
	if s.upgraded {
		s.log.Error("the new version has not become ready since the upgrade: " +
			"put another one in its place and upgrade again")
	}
	s.plan(now, now.Sub(w.started))
}

// plan decides when to start the next worker after one that lived for so long.
func (s *supervisor) plan(now time.Time, lived time.Duration) {
	delay := s.backoff.next(now, lived)
	s.startAt = now.Add(delay)
	if delay == 0 || s.givesUp() {
		return
	}
	released := 0
	if delay > ignoredPatience {
		released = s.store.releaseIgnored()
	}
	s.log.Warn("daemon will be started again", slog.Duration("delay", delay),
		slog.Int("released", released), slog.Int("descriptors", len(s.store.held)))
}

// handle does what a signal asks for.
func (s *supervisor) handle(sig unix.Signal) error {
	switch {
	case (sig == unix.SIGTERM || sig == unix.SIGINT) && s.shared != nil:
		s.shared.terminate(time.Now())
	case sig == unix.SIGTERM || sig == unix.SIGINT:
		s.goal = toStop
		s.stopWorker()
	case sig == unix.SIGHUP && s.worker != nil:
		_ = unix.Kill(s.worker.pid, unix.SIGHUP)
	case sig == unix.SIGUSR2 && s.goal == toRun:
		return s.upgrade()
	}
	return nil
}

// stopWorker asks the worker to stop; check sees to it that it does.
func (s *supervisor) stopWorker() {
	if s.worker != nil {
		s.worker.tell(unix.SIGTERM, time.Now().Add(s.config.StopTimeout))
	}
}

// proceed does what is due, and reports whether the supervisor is done.
func (s *supervisor) proceed(now time.Time) (bool, error) {
	if done, err := s.shared.proceed(now); done {
		return true, err
	}
	if s.worker != nil {
		s.check(now)
		return false, nil
	}
	switch s.goal {
	case toStop:
		return true, s.outcome("daemon stopped")
	case toUpgrade:
		err := s.becomeNew()
		s.log.Error("upgrade failed: this version goes on", slog.Any("error", err))
		s.goal = toRun
		s.start()
		return false, nil
	}
	if !s.shared.serves() {
		return false, nil
	}
	if s.givesUp() {
		return true, s.giveUp()
	}
	if !now.Before(s.startAt) {
		s.restarts++
		s.start()
	}
	return false, nil
}

// check ends a worker that hangs. One that was told to end and is stopped by a
// signal, before or after that, cannot hear it; SIGCHLD has this looked at as soon
// as it is stopped.
func (s *supervisor) check(now time.Time) {
	w := s.worker
	switch {
	case !w.killAt.IsZero() && w.stopped():
		s.log.Error("daemon is stopped and cannot end: killing it", w.attrs()...)
		w.tell(unix.SIGKILL, time.Time{})
	case !w.killAt.IsZero() && !now.Before(w.killAt):
		s.log.Error("daemon does not end: killing it", slog.Int("pid", w.pid))
		w.tell(unix.SIGKILL, time.Time{})
	case w.deadline.IsZero() || now.Before(w.deadline):
	case w.stopped():
		s.log.Error("daemon hangs: killing it", w.attrs()...)
		w.tell(unix.SIGKILL, time.Time{})
	default:
		s.log.Error("daemon hangs: aborting it", w.attrs()...)
		w.tell(unix.SIGABRT, now.Add(s.config.AbortGrace))
	}
}

// givesUp reports whether to start no worker any more. After an upgrade the
// operator decides that, and has another version.
func (s *supervisor) givesUp() bool { return !s.upgraded && s.backoff.tooMany() }

// giveUp says what becomes of the pods.
func (s *supervisor) giveUp() error {
	ignored := s.store.releaseIgnored()
	s.log.Error("giving up: the daemon dies again and again; pods under failure policy Ignore "+
		"keep their network, those under Fail are cut off where their hook outlives the daemon",
		slog.Int("deaths", len(s.backoff.recent)), slog.Duration("window", s.config.DeathWindow),
		slog.Int("ignoreDescriptors", ignored), slog.Int("failDescriptors", s.store.strict()))
	err := s.outcome(fmt.Sprintf("the daemon died %d times within %v", len(s.backoff.recent),
		s.config.DeathWindow))
	if err == nil { // it exited with 0, but was not to
		err = &ExitError{Code: 1, reason: "the daemon ended by itself again and again"}
	}
	return err
}

// outcome is how the supervisor ends: as the last worker did.
func (s *supervisor) outcome(reason string) error {
	if s.code == 0 {
		return nil
	}
	return &ExitError{Code: s.code, reason: fmt.Sprintf("%s, exit code %d", reason, s.code)}
}
