// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/fault"
	"github.com/nsqueue/nsqueue/daemon/internal/succession"
	"github.com/nsqueue/nsqueue/internal/boottime"
)

// shared is the supervisor among those that share its hand-over directory. Where it
// is nil there are no others.
type shared struct {
	s     *supervisor
	self  succession.Identity
	times succession.Times
	at    func(fault.Point)
	role  succession.Role
	since time.Time     // for people
	began time.Duration // since boot

	// See retired.
	leaves, unreadable bool

	// Of the active one, nil otherwise.
	lock     *succession.Lock
	listener *succession.Listener
	listenAt time.Time // again, after an error
	peers    []*peer

	// Of one that is not active.
	standby   bool      // and takes only when it is asked
	active    *upstream // nil while it is sought
	seekAt    time.Time
	seekUntil time.Time
	// handed is the lock that has come with the descriptors; nil before that.
	handed *succession.Lock

	ending      bool // it was told to end
	lingerUntil time.Time
	failed      error // why it cannot go on

	takeOvers   int
	refusals    int
	lastRefusal *succession.Refusal
	published   string
}

// upstream is the connection to the active supervisor.
type upstream struct {
	conn  *succession.Conn // nil after its end
	taker *succession.Taker
	since time.Time // for people
}

func newShared(s *supervisor) *shared {
	return &shared{
		s: s, at: s.config.at, times: s.config.times, role: succession.Fresh, since: time.Now(),
		began: boottime.Now(),
		self: succession.Identity{
			Version: s.config.Version, Instance: s.config.Instance,
			StateVersion: s.config.StateVersion,
		},
	}
}

// begin looks for the active supervisor, or becomes it. After a restart of its
// container a standby is a standby again.
func (h *shared) begin(now time.Time) {
	path := succession.ReportPath(h.s.config.RuntimeDir)
	if r, err := succession.ReadReport(path); err == nil && r.Role == succession.Standby {
		h.standby = true
		h.become(succession.Standby)
	}
	h.seek(now)
	h.publish()
}

func (h *shared) become(r succession.Role) {
	if h.role == r {
		return
	}
	h.s.log.Info("role changed", slog.String("from", string(h.role)),
		slog.String("to", string(r)))
	h.role, h.since = r, time.Now()
}

// apiRole is the role as others are told. One that gives is the active one as long as
// it may go on.
func (h *shared) apiRole() api.SupervisorRole {
	switch {
	case h == nil, h.role == succession.Giving:
		return api.RoleActive
	}
	return map[succession.Role]api.SupervisorRole{
		succession.Fresh: api.RoleFresh, succession.Taking: api.RoleTaking,
		succession.Active: api.RoleActive, succession.Standby: api.RoleStandby,
	}[h.role]
}

// serves reports whether a daemon is to run, or to be started again.
func (h *shared) serves() bool { return h == nil || h.role == succession.Active }

// poll adds what is waited for.
func (h *shared) poll(fds []unix.PollFd) []unix.PollFd {
	if h == nil {
		return fds
	}
	add := func(fd int, full bool) {
		events := int16(unix.POLLIN)
		if full {
			events |= unix.POLLOUT
		}
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: events})
	}
	if h.listener != nil && h.listenAt.IsZero() {
		add(h.listener.FD(), false)
	}
	for _, p := range h.peers {
		add(p.conn.FD(), p.outbox != nil)
	}
	if h.active != nil && h.active.conn != nil {
		add(h.active.conn.FD(), false)
	}
	if w := h.s.worker; w != nil && w.outbox != nil {
		add(w.waiting.FD(), true)
	}
	return fds
}

// due is the next time at which there is something to do by the clock.
func (h *shared) due() time.Time {
	if h == nil {
		return time.Time{}
	}
	due := sooner(h.seekAt, h.listenAt)
	for _, p := range h.peers {
		due = sooner(due, p.giver.Due())
	}
	if h.active != nil {
		due = sooner(due, h.active.taker.Due())
	}
	if h.ending && h.role == succession.Active && h.s.goal == toRun {
		due = sooner(due, h.lingerUntil)
	}
	return due
}

// receive handles all that others have sent. It comes before anything that is done by
// the clock: a supervisor that was stopped for a while learns first what has happened.
func (h *shared) receive(now time.Time) {
	if h == nil {
		return
	}
	h.accept(now)
	for _, p := range append([]*peer(nil), h.peers...) {
		h.flushPeer(p, now)
		h.receiveFrom(p, now)
	}
	h.flushDaemon()
	h.receiveUpstream(now)
}

// receiveUpstream handles what the active supervisor says.
func (h *shared) receiveUpstream(now time.Time) {
	for h.active != nil && h.active.conn != nil {
		m, fds, err := h.active.conn.Receive()
		t := h.active.taker
		switch {
		case errors.Is(err, succession.ErrAgain):
			return
		case errors.Is(err, io.EOF):
			h.take(t.Gone(), now)
			return
		case err != nil:
			h.take(t.Broken(err), now)
			return
		}
		if err := h.keep(&m, fds); err != nil {
			h.take(t.Broken(err), now)
			return
		}
		steps := t.Received(m, now)
		h.atReceived(m.Kind)
		h.take(steps, now)
	}
}

// proceed does what is due, and reports whether the supervisor is done.
func (h *shared) proceed(now time.Time) (bool, error) {
	if h == nil {
		return false, nil
	}
	defer h.publish()
	h.expire(now)
	if h.failed != nil && h.s.worker == nil {
		return true, &ExitError{Code: 1, reason: h.failed.Error()}
	}
	if h.failed != nil || !h.ending {
		return false, nil
	}
	if h.role == succession.Active {
		h.linger(now)
		return false, nil
	}
	return h.role != succession.Giving && h.s.worker == nil, nil
}

// forget removes the report of a supervisor that ends as it was told: who starts it
// again wants it to take over, as one that was never a standby.
func (h *shared) forget() {
	if h.ending || h.s.goal == toStop {
		_ = os.Remove(succession.ReportPath(h.s.config.RuntimeDir))
	}
}

// expire goes on where others were silent for too long.
func (h *shared) expire(now time.Time) {
	over := func(due time.Time) bool { return !due.IsZero() && !now.Before(due) }
	for _, p := range append([]*peer(nil), h.peers...) {
		if over(p.giver.Due()) {
			h.give(p, p.giver.Expired(), now)
		}
	}
	if h.active != nil && over(h.active.taker.Due()) {
		h.take(h.active.taker.Expired(), now)
	}
	if over(h.listenAt) {
		h.listenAt = time.Time{}
		h.listen(now)
	}
	if over(h.seekAt) && !h.ending {
		h.seek(now)
	}
}

// terminate is SIGTERM: an active supervisor gives to a standby, or waits for one to
// come. A second one ends the waiting.
func (h *shared) terminate(now time.Time) {
	if h.ending {
		h.lingerUntil = now
		return
	}
	h.ending, h.lingerUntil = true, now.Add(h.s.config.Linger)
	if h.active != nil {
		h.take(h.active.taker.Quit(), now)
	} else if h.role != succession.Active && h.role != succession.Giving {
		h.s.stopWorker() // which has been prepared for nothing
	}
}

// linger gives to a standby, waits for a successor, and makes an end at last.
func (h *shared) linger(now time.Time) {
	if h.s.goal != toRun || h.busy(nil) != "" {
		return
	}
	if h.retired() {
		h.s.log.Info("stopping for good")
		h.endForGood()
		return
	}
	for _, p := range slices.Backward(h.peers) {
		if p.giver.Ready() {
			h.s.log.Info("asking the standby to take over", identity(p.giver.Peer)...)
			h.give(p, p.giver.Offer(h.held(p), now), now)
			return
		}
	}
	if now.Before(h.lingerUntil) {
		return
	}
	h.s.log.Warn("no successor has come: stopping for good; pods under failure policy Ignore "+
		"keep their network, those under Fail are cut off until the next start",
		slog.Duration("linger", h.s.config.Linger))
	h.endForGood()
}

// endForGood stops the daemon without a successor.
func (h *shared) endForGood() {
	if w := h.s.worker; w != nil {
		w.lease.End() // by which the daemon knows that this stop is the last one
	}
	h.s.goal = toStop
	h.s.stopWorker()
}

// close ends all connections, and lets go of the lock last.
func (h *shared) close() {
	if h == nil {
		return
	}
	h.forget()
	for _, p := range h.peers {
		p.close()
	}
	if h.active != nil && h.active.conn != nil {
		h.active.conn.Close()
	}
	if h.listener != nil {
		h.listener.Remove()
	}
	if h.lock != nil && len(h.peers) == 0 && h.retired() {
		h.lock.Clear(h.s.config.HandoverDir)
	}
	for _, l := range []*succession.Lock{h.handed, h.lock} {
		if l != nil {
			l.Close()
		}
	}
}

// publish writes what this supervisor is, where that has changed.
func (h *shared) publish() {
	r := h.report()
	text := r.String()
	if text == h.published {
		return
	}
	h.published = text
	if err := r.Write(succession.ReportPath(h.s.config.RuntimeDir)); err != nil {
		h.s.log.Error("cannot write the supervisor's role", slog.Any("error", err))
	}
}

func (h *shared) report() *succession.Report {
	r := &succession.Report{
		Role: h.role, Since: h.since.UTC(), Identity: h.self,
		TakeOvers: h.takeOvers, Refusals: h.refusals, LastRefusal: h.lastRefusal, Ending: h.ending,
	}
	for _, p := range h.peers {
		if p.giver.Standby {
			r.Peers = append(r.Peers, succession.PeerReport{
				Role: succession.Standby, Since: p.since.UTC(), Identity: p.giver.Peer,
			})
		}
	}
	if a := h.active; a != nil && a.taker.Peer != (succession.Identity{}) {
		r.Peers = append(r.Peers, succession.PeerReport{
			Role: succession.Active, Since: a.since.UTC(), Identity: a.taker.Peer,
		})
	}
	return r
}

// identity tells a log about another supervisor.
func identity(i succession.Identity) []any {
	return []any{slog.String("version", i.Version), slog.String("instance", i.Instance)}
}
