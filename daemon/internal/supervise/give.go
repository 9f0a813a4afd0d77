// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"io"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/fault"
	"github.com/nsqueue/nsqueue/daemon/internal/succession"
)

// maxPeers is how many supervisors may be connected with the active one.
const maxPeers = 16

// listenRetry is how long to wait after an error of the socket.
const listenRetry = time.Second

// peer is a supervisor that is connected with the active one.
type peer struct {
	conn  *succession.Conn
	giver *succession.Giver
	since time.Time // for people
	// lease is that of the peer's daemon, nil until the peer takes.
	lease *succession.Lease
	// outbox is nil unless something is being sent.
	outbox *succession.Outbox
	// mirror is what the peer has of the store.
	mirror succession.Mirror
}

func (p *peer) close() {
	p.lease.Close()
	p.conn.Close()
}

// listen makes the socket by which others find this supervisor.
func (h *shared) listen(now time.Time) {
	if h.role != succession.Active || h.listener != nil {
		return
	}
	var err error
	if h.listener, err = succession.Listen(h.s.config.HandoverDir); err != nil {
		h.listener = nil
		h.s.log.Error("no supervisor can take over from this one; trying again",
			slog.Any("error", err))
		h.listenAt = now.Add(listenRetry)
	}
}

// accept takes the connections that wait.
func (h *shared) accept(now time.Time) {
	for h.listener != nil && h.listenAt.IsZero() {
		conn, err := h.listener.Accept()
		if errors.Is(err, succession.ErrAgain) {
			return
		}
		if err != nil {
			h.s.log.Warn("a supervisor cannot connect", slog.Any("error", err))
			if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
				h.listenAt = now.Add(listenRetry)
			}
			continue
		}
		if len(h.peers) == maxPeers {
			h.s.log.Warn("too many supervisors are connected: one more is refused")
			conn.Close()
			continue
		}
		h.peers = append(h.peers, &peer{
			conn: conn, giver: succession.NewGiver(h.self, h.times, now), since: time.Now(),
		})
		h.at(fault.GiveConnected)
	}
}

// held is what there is to give, and whether it can be given to the peer now.
func (h *shared) held(to *peer) succession.Held {
	return succession.Held{Count: len(h.s.store.held), Busy: h.busy(to)}
}

// busy says why nothing can be given to the peer; empty if something can.
func (h *shared) busy(to *peer) string {
	switch {
	case h.s.goal != toRun:
		return "the active supervisor is about to end"
	case slices.ContainsFunc(h.peers, func(p *peer) bool {
		return p != to && (p.giver.Giving() || p.giver.Offering())
	}):
		return "the active supervisor hands over to another one"
	}
	return ""
}

// receiveFrom handles what a peer says. It hears all that has been said before it begins
// to hand over: a later word, or the peer's end, may call that off.
func (h *shared) receiveFrom(p *peer, now time.Time) {
	var begin []succession.Step
	for slices.Contains(h.peers, p) {
		m, fds, err := p.conn.Receive()
		switch {
		case errors.Is(err, succession.ErrAgain):
			h.give(p, begin, now)
			return
		case errors.Is(err, io.EOF):
			h.give(p, p.giver.Gone(), now)
			return
		case err != nil:
			h.give(p, p.giver.Broken(err), now)
			return
		}
		h.lend(p, &m, fds)
		steps := p.giver.Received(m, h.held(p), now)
		h.atHeard(m.Kind)
		if begin = nil; begins(steps) {
			begin = steps
			continue
		}
		h.give(p, steps, now)
	}
}

// atHeard passes the points of messages that were received.
func (h *shared) atHeard(kind succession.Kind) {
	switch kind {
	case succession.Have:
		h.at(fault.GiveHad)
	case succession.Ready:
		h.at(fault.GiveReady)
	}
}

// begins reports whether the steps begin to hand over.
func begins(steps []succession.Step) bool {
	return len(steps) > 0 && steps[0].Do == succession.StopDaemon
}

// lend keeps the lease that comes with a message.
func (h *shared) lend(p *peer, m *succession.Message, fds []int) {
	if m.Kind == succession.Take && p.lease == nil {
		p.lease = succession.LeaseOf(fds[0], fds[1])
		return
	}
	succession.CloseAll(fds)
}

// give does what the giver says.
func (h *shared) give(p *peer, steps []succession.Step, now time.Time) {
	for i := range steps {
		h.giveStep(p, &steps[i], now)
	}
}

func (h *shared) giveStep(p *peer, step *succession.Step, now time.Time) {
	if step.Refused {
		h.refused(p, step.Reason)
	}
	switch step.Do {
	case succession.Send:
		h.sendPeer(p, &step.Message)
	case succession.SendCopies:
		h.sendCopies(p, now)
	case succession.StopDaemon:
		h.stopDaemon(p, now)
	case succession.SendAll:
		h.sendAll(p, now)
	case succession.Claim:
		h.give(p, p.giver.Claimed(p.lease.Claim()), now)
	case succession.Resume:
		h.resume(p)
	case succession.LetGo:
		h.letGo(p)
	case succession.HangUp:
		h.peers = slices.DeleteFunc(h.peers, func(other *peer) bool { return other == p })
		p.close()
	}
}

// sendPeer sends a short message. A peer that is stopped may have left no room for the
// word that it is not to go on: that waits. That a peer is gone is found out by reading.
func (h *shared) sendPeer(p *peer, m *succession.Message) {
	switch err := p.conn.Send(m); {
	case errors.Is(err, succession.ErrAgain):
		p.outbox = succession.NewWord(*m)
	case err != nil:
		h.s.log.Warn("cannot send to another supervisor",
			slog.String("message", string(m.Kind)), slog.Any("error", err))
	}
	if m.Kind == succession.Offer {
		h.at(fault.GiveOffered)
	}
}

// refused notes a take-over that has not come about.
func (h *shared) refused(p *peer, reason string) {
	h.refusals++
	h.lastRefusal = &succession.Refusal{
		At: time.Now().UTC(), Reason: reason, Identity: p.giver.Peer,
	}
	h.s.log.Warn("another supervisor has not taken over", append(identity(p.giver.Peer),
		slog.String("reason", reason))...)
}

func (h *shared) stopDaemon(p *peer, now time.Time) {
	h.s.log.Info("handing over", identity(p.giver.Peer)...)
	h.become(succession.Giving)
	w := h.s.worker
	if w == nil {
		h.daemonStopped(now)
		return
	}
	w.told = true
	w.tell(unix.SIGTERM, now.Add(min(h.s.config.StopTimeout, h.times.StopDaemon())))
	h.at(fault.GiveStopping)
}

// daemonStopped has everything sent to the peer that takes.
func (h *shared) daemonStopped(now time.Time) {
	h.at(fault.GiveStopped)
	for _, p := range append([]*peer(nil), h.peers...) {
		h.give(p, p.giver.DaemonStopped(len(h.s.store.held), now), now)
	}
}

// sendCopies of all that is held; what comes and goes from now on follows later.
func (h *shared) sendCopies(p *peer, now time.Time) {
	p.mirror = succession.Mirror{}
	p.outbox = succession.NewOutbox(&p.mirror, h.s.store.named, succession.Message{
		Kind: succession.Copied,
	})
	h.at(fault.GiveCopies)
	h.flushPeer(p, now)
}

func (h *shared) sendAll(p *peer, now time.Time) {
	p.outbox = succession.NewOutbox(&p.mirror, h.s.store.named, succession.Message{
		Kind: succession.All, Orderly: h.s.code == 0,
	}, h.lock.FD())
	h.at(fault.GiveDescriptors)
	h.flushPeer(p, now)
}

// flushPeer sends what there is room for.
func (h *shared) flushPeer(p *peer, now time.Time) {
	if p.outbox == nil {
		return
	}
	done, err := p.outbox.Flush(p.conn)
	if err != nil {
		p.outbox = nil
		h.give(p, p.giver.Broken(err), now)
		return
	}
	if done {
		p.outbox = nil
		h.give(p, p.giver.Sent(now), now)
	}
	switch {
	case done && p.giver.Giving():
		h.at(fault.GiveAll)
	case done:
		h.at(fault.GiveCopied)
	}
}

// resume goes on with what is held. A daemon that still ends is followed by another
// one when it has.
func (h *shared) resume(p *peer) {
	p.outbox = nil
	p.lease.Close()
	p.lease = nil
	if h.role != succession.Giving {
		return
	}
	h.become(succession.Active)
	if h.s.worker == nil {
		h.s.start()
	}
}

// letGo closes all copies, and stands by the one that has them now.
func (h *shared) letGo(p *peer) {
	h.s.log.Info("handed over", append(identity(p.giver.Peer),
		slog.Int("descriptors", len(h.s.store.held)))...)
	p.lease.Close()
	p.outbox = nil
	h.s.store.close()
	h.listener.Close()
	h.lock.Close()
	h.listener, h.lock, h.listenAt = nil, nil, time.Time{}
	for _, other := range h.peers {
		if other != p {
			other.close() // and finds the new one
		}
	}
	h.peers = nil
	h.standby = true
	h.active = &upstream{
		conn: p.conn, since: time.Now(),
		taker: succession.TakerOf(h.self, p.giver.Peer, h.limits(), h.times),
	}
	h.become(succession.Standby)
	h.at(fault.GiveLetGo)
}
