// SPDX-License-Identifier: Apache-2.0

package succession

import (
	"fmt"
	"time"
)

// giverStage is how far a giver has come with one peer.
type giverStage int

const (
	greeted  giverStage = iota // nothing has been said so far
	waiting                    // the peer may take, or stands by
	offering                   // a standby was asked to take
	copying                    // copies are being sent
	copied                     // and have been
	stopping                   // the daemon ends
	sending                    // descriptors are being sent
	sent                       // and have been
	had                        // the peer has them all
	claiming                   // the peer was silent for too long
	revoked                    // the peer was told, and may be about to answer
	finished                   // nothing more is said
)

// Giver is the active supervisor's side of one connection. Its methods return what
// to do; no more than one giver of a supervisor may be in the midst of giving.
type Giver struct {
	self  Identity
	times Times
	// Peer is what the other side says of itself, after its Hello.
	Peer Identity
	// Standby: the peer does not take by itself.
	Standby bool

	stage    giverStage
	declined bool
	count    int
	deadline time.Time
}

// NewGiver returns the giver for a peer that has just connected.
func NewGiver(self Identity, times Times, now time.Time) *Giver {
	return &Giver{self: self, times: times, deadline: now.Add(times.Answer)}
}

// GiverOf returns the giver for a standby that is known already, such as the one
// that has given to this supervisor.
func GiverOf(self, peer Identity, times Times) *Giver {
	return &Giver{self: self, times: times, Peer: peer, Standby: true, stage: waiting}
}

// Due is when to call Expired; zero is never.
func (g *Giver) Due() time.Time { return g.deadline }

// Giving reports whether the daemon is stopped, or is to be, for this peer.
func (g *Giver) Giving() bool { return g.stage >= stopping && g.stage < revoked }

// Offering reports whether the peer was asked to take and has not said that it does.
func (g *Giver) Offering() bool {
	return g.Standby && g.stage >= offering && g.stage < stopping
}

// Ready reports whether the peer can be asked to take.
func (g *Giver) Ready() bool { return g.stage == waiting && g.Standby && !g.declined }

// Held is what the active supervisor has, and whether it can be given now.
type Held struct {
	Count int
	// Busy says why not; empty if it can.
	Busy string
}

// Received handles a message.
func (g *Giver) Received(m Message, h Held, now time.Time) []Step {
	switch {
	case g.stage == revoked:
		return g.answered(m)
	case m.Kind == Hello && g.stage == greeted:
		return g.hello(m, h)
	case m.Kind == Copy && (g.stage == waiting || g.stage == offering):
		return g.begin(h, copying, SendCopies, now.Add(g.times.Answer))
	case m.Kind == Take && g.stage == copied:
		return g.begin(h, stopping, StopDaemon, time.Time{})
	case m.Kind == Have && g.stage == sent:
		return g.have(m, now)
	case m.Kind == Ready && (g.stage == had || g.stage == claiming):
		return g.ready()
	case m.Kind == Abort && g.stage != greeted && g.stage != finished:
		return g.aborted(m)
	}
	return g.fail(fmt.Sprintf("the other supervisor says %s, which is out of turn", m.Kind))
}

func (g *Giver) hello(m Message, h Held) []Step {
	g.Peer, g.Standby, g.deadline = m.Identity, m.Standby, time.Time{}
	protocol := common(m.Protocols)
	refuse := func(reason string, busy bool) []Step {
		g.stage = finished
		return []Step{
			send(Message{Kind: Refuse, Identity: g.self, Reason: reason, Busy: busy}),
			{Do: HangUp, Reason: reason, Refused: !busy},
		}
	}
	switch {
	case protocol == 0:
		return refuse(fmt.Sprintf("version %s speaks the hand-over protocols %v, and the active "+
			"version %s speaks %v: upgrade over a version in between", m.Version, m.Protocols,
			g.self.Version, protocols()), false)
	case m.Instance != g.self.Instance:
		return refuse(fmt.Sprintf("%q is active on this node, and %q wants to take over: one of "+
			"them must be uninstalled from the node", g.self.Instance, m.Instance), false)
	case m.Standby:
		g.stage = waiting
		return []Step{send(Message{Kind: Noted, Identity: g.self, Protocol: protocol})}
	case m.StateVersion < g.self.StateVersion:
		return refuse(newerState(g.self, m.Identity), false)
	case h.Busy != "":
		return refuse(h.Busy, true)
	}
	g.stage = waiting
	return []Step{send(Message{
		Kind: Offer, Identity: g.self, Protocol: protocol, Count: h.Count,
	})}
}

func newerState(active, other Identity) string {
	return fmt.Sprintf("version %s writes state files of version %d, and %s knows up to %d: "+
		"install a newer one", active.Version, active.StateVersion, other.Version,
		other.StateVersion)
}

// Offer asks a standby to take.
func (g *Giver) Offer(h Held, now time.Time) []Step {
	g.stage, g.deadline = offering, now.Add(g.times.Prepare)
	return []Step{send(Message{
		Kind: Offer, Identity: g.self, Protocol: Protocol, Count: h.Count,
	})}
}

// begin does what the peer asks for, unless there is another one to give to by now.
func (g *Giver) begin(h Held, stage giverStage, do Do, due time.Time) []Step {
	if h.Busy != "" {
		g.stage = finished
		return []Step{
			send(Message{Kind: Refuse, Identity: g.self, Reason: h.Busy, Busy: true}), {Do: HangUp},
		}
	}
	g.stage, g.deadline = stage, due
	return []Step{{Do: do}}
}

// DaemonStopped goes on after the end of the daemon.
func (g *Giver) DaemonStopped(count int, now time.Time) []Step {
	if g.stage != stopping {
		return nil
	}
	g.stage, g.count, g.deadline = sending, count, now.Add(g.times.Answer)
	return []Step{{Do: SendAll}}
}

// Sent goes on after the copies, or all, were sent.
func (g *Giver) Sent(now time.Time) []Step {
	switch g.stage {
	case copying:
		g.stage, g.deadline = copied, now.Add(g.times.Prepare)
	case sending:
		g.stage, g.deadline = sent, now.Add(g.times.Answer)
	}
	return nil
}

func (g *Giver) have(m Message, now time.Time) []Step {
	if m.Count != g.count {
		return g.fail(fmt.Sprintf("the other supervisor has %d of %d descriptors",
			m.Count, g.count))
	}
	g.stage, g.deadline = had, now.Add(g.times.patience())
	return nil
}

func (g *Giver) ready() []Step {
	g.stage, g.deadline = finished, time.Time{}
	return []Step{{Do: LetGo}}
}

// aborted goes on without the peer. A standby stays one, and is not asked again; any
// other has ended.
func (g *Giver) aborted(m Message) []Step {
	g.declined, g.deadline = true, time.Time{}
	resume := Step{Do: Resume, Reason: m.Reason, Refused: true}
	if g.Standby {
		g.stage = waiting
		return []Step{resume}
	}
	g.stage = finished
	return []Step{resume, {Do: HangUp}}
}

// answered waits for the end of a peer that was told. What it said before it was told
// means nothing any more.
func (g *Giver) answered(m Message) []Step {
	switch {
	case m.Kind != Abort:
		return nil
	case g.Standby:
		g.stage = waiting
		return nil
	}
	g.stage = finished
	return []Step{{Do: HangUp}}
}

// Gone goes on after the peer's end.
func (g *Giver) Gone() []Step {
	const reason = "the other supervisor has ended"
	was := g.stage
	g.stage, g.deadline = finished, time.Time{}
	hangUp := Step{Do: HangUp, Reason: reason}
	if was >= stopping && was < revoked {
		return []Step{{Do: Resume, Reason: reason, Refused: true}, hangUp}
	}
	return []Step{hangUp}
}

// Broken goes on after an error of the connection.
func (g *Giver) Broken(err error) []Step { return g.fail(err.Error()) }

// fail tells the peer, and goes on without it. A peer that may have what it needs is
// left to hang up first: where the connection ends by itself, it knows that no one else
// has what it has.
func (g *Giver) fail(reason string) []Step {
	was := g.stage
	switch {
	case was >= revoked:
		return nil
	case was < stopping:
		g.stage, g.deadline = finished, time.Time{}
		return []Step{abort(reason), {Do: HangUp, Reason: reason}}
	}
	g.stage, g.deadline, g.declined = revoked, time.Time{}, true
	return []Step{{Do: Resume, Reason: reason, Refused: true}, abort(reason)}
}

// Expired goes on when Due is over. A peer that has what it needs for its daemon to
// serve may do so at this very moment: the lease tells.
func (g *Giver) Expired() []Step {
	switch g.stage {
	case sent, had:
		g.stage, g.deadline = claiming, time.Time{}
		return []Step{{Do: Claim}}
	}
	return g.fail("the other supervisor does not answer")
}

// Claimed goes on after Claim.
func (g *Giver) Claimed(ok bool) []Step {
	if g.stage != claiming {
		return nil
	}
	if !ok { // the peer's daemon serves, whatever has become of the peer
		return g.ready()
	}
	return g.fail("the other supervisor's daemon does not serve in time")
}
