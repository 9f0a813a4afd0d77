// SPDX-License-Identifier: Apache-2.0

package succession

import (
	"fmt"
	"time"
)

// takerStage is how far a taker has come.
type takerStage int

const (
	greeting  takerStage = iota // Hello is to be sent, or was
	standing                    // as a standby
	preparing                   // the daemon is being prepared
	awaiting                    // Copy was sent
	showing                     // the daemon looks at the copies
	taking                      // Take was sent
	starting                    // everything is here, and the daemon starts
	ending                      // the daemon ends: it was for nothing
	over                        // this supervisor is active, or has failed
)

// Limits are what a supervisor can take over.
type Limits struct {
	// Descriptors that it may hold.
	Descriptors int
	// Files that it may open in all, as the kernel limits it.
	Files uint64
}

// reserve is how many files a supervisor and its daemon open besides those that are
// handed over, at least.
const reserve = 256

// check says why so many descriptors cannot be taken, nothing if they can.
func (l Limits) check(count int) string {
	switch {
	case count > l.Descriptors:
		return fmt.Sprintf("%d descriptors are held, and this supervisor takes %d: raise "+
			"--max-descriptors", count, l.Descriptors)
	case uint64(count)+reserve > l.Files:
		return fmt.Sprintf("%d descriptors are held, and this process may open %d files: raise "+
			"its hard limit (ulimit -Hn, LimitNOFILE=) to %d or more", count, l.Files,
			count+reserve)
	}
	return ""
}

// Taker is the side of a supervisor that is not active, on its connection to the
// active one.
type Taker struct {
	self    Identity
	limits  Limits
	times   Times
	standby bool
	// Peer is what the active supervisor says of itself.
	Peer Identity

	stage    takerStage
	deadline time.Time
	alone    bool // the giver is gone
	untold   bool // it knows of the end
	count    int  // of descriptors that have come
	reason   string
}

// NewTaker returns the taker on a new connection, and its first step. A standby
// waits until it is asked.
func NewTaker(
	self Identity, l Limits, times Times, standby bool, now time.Time,
) (*Taker, []Step) {
	t := &Taker{
		self: self, limits: l, times: times, standby: standby, deadline: now.Add(times.Answer),
	}
	return t, []Step{send(Message{
		Kind: Hello, Identity: self, Protocols: protocols(), Standby: standby,
	})}
}

// TakerOf returns the taker of a supervisor that has just given to the peer.
func TakerOf(self, peer Identity, l Limits, times Times) *Taker {
	return &Taker{self: self, Peer: peer, limits: l, times: times, standby: true, stage: standing}
}

// Due is when to call Expired; zero is never.
func (t *Taker) Due() time.Time { return t.deadline }

// Standing reports whether this is a standby with nothing under way.
func (t *Taker) Standing() bool { return t.stage == standing }

// Taking reports whether the giver may have stopped its daemon for this side.
func (t *Taker) Taking() bool { return t.stage >= taking && t.stage < over }

// Comes reports whether a message of the kind is about descriptors that come now.
func (t *Taker) Comes(k Kind) bool {
	return (k == Descriptors || k == Forget) && (t.stage == awaiting || t.stage == taking)
}

// Alone reports whether the giver is gone, and all that it had is here.
func (t *Taker) Alone() bool { return t.alone && t.stage == starting }

// Received handles a message.
func (t *Taker) Received(m Message, now time.Time) []Step {
	switch {
	case m.Kind == Offer && (t.stage == greeting && !t.standby || t.stage == standing):
		return t.offered(m)
	case m.Kind == Noted && t.stage == greeting && t.standby:
		t.Peer, t.stage, t.deadline = m.Identity, standing, time.Time{}
		return nil
	case m.Kind == Refuse && t.stage < starting:
		return t.refused(m)
	case t.Comes(m.Kind):
		t.count += len(m.Names) - len(m.Positions)
		return nil
	case m.Kind == Copied && t.stage == awaiting:
		return t.copied(m)
	case m.Kind == All && t.stage == taking:
		return t.all(m, now)
	case m.Kind == Abort:
		return t.end("the active supervisor aborts: " + m.Reason)
	case t.stage == ending, m.Kind == Ready && t.stage == standing: // what comes late
		return nil
	}
	return t.fail(fmt.Sprintf("the active supervisor says %s, which is out of turn", m.Kind))
}

func (t *Taker) offered(m Message) []Step {
	t.Peer, t.deadline = m.Identity, time.Time{}
	reason := t.limits.check(m.Count)
	if m.StateVersion > t.self.StateVersion {
		reason = newerState(m.Identity, t.self)
	}
	if reason != "" {
		return t.fail(reason)
	}
	t.stage, t.count = preparing, 0
	return []Step{{Do: Prepare}}
}

// refused: an active one that is busy may not be so in a moment.
func (t *Taker) refused(m Message) []Step {
	t.Peer = m.Identity
	t.untold = true
	if !m.Busy {
		return t.fail("the active supervisor refuses: " + m.Reason)
	}
	if t.stage == greeting {
		t.stage, t.deadline = over, time.Time{}
		return []Step{{Do: HangUp}, {Do: Seek, Reason: m.Reason}}
	}
	return t.fail("the active supervisor is busy: " + m.Reason)
}

// Prepared goes on when the daemon waits for descriptors.
func (t *Taker) Prepared(now time.Time) []Step {
	if t.stage != preparing {
		return nil
	}
	t.stage, t.deadline = awaiting, now.Add(t.times.Answer)
	return []Step{send(Message{Kind: Copy})}
}

// copied has the daemon look at the copies, which takes longer than packets should
// wait.
func (t *Taker) copied(m Message) []Step {
	if reason := t.checkCount(m); reason != "" {
		return t.fail(reason)
	}
	t.stage, t.deadline = showing, time.Time{}
	return []Step{{Do: Show}}
}

// Seen goes on when the daemon has looked at the copies.
func (t *Taker) Seen(now time.Time) []Step {
	if t.stage != showing {
		return nil
	}
	t.stage, t.deadline = taking, now.Add(t.times.Stop)
	return []Step{send(Message{Kind: Take})}
}

// checkCount says what is wrong with the descriptors that have come, nothing if nothing
// is.
func (t *Taker) checkCount(m Message) string {
	if m.Count != t.count {
		return fmt.Sprintf("%d of %d descriptors have come", t.count, m.Count)
	}
	return t.limits.check(m.Count)
}

func (t *Taker) all(m Message, now time.Time) []Step {
	if reason := t.checkCount(m); reason != "" {
		return t.fail(reason)
	}
	t.stage, t.deadline = starting, now.Add(t.times.Start)
	return []Step{send(Message{Kind: Have, Count: m.Count}), {Do: Deliver}}
}

// DaemonReady goes on when the daemon serves. It has claimed the lease: there is no
// way back.
func (t *Taker) DaemonReady() []Step {
	if t.stage != starting {
		return nil
	}
	t.stage, t.deadline = over, time.Time{}
	if t.alone {
		return []Step{{Do: Activate}}
	}
	return []Step{send(Message{Kind: Ready}), {Do: Activate}}
}

// DaemonEnded goes on after the end of the daemon, wanted or not.
func (t *Taker) DaemonEnded(why string) []Step {
	switch t.stage {
	case starting:
		if t.alone { // no one else has what is here
			t.stage, t.deadline = over, time.Time{}
			return []Step{{Do: Activate}}
		}
		t.reason = "the new daemon does not start: " + why
	case preparing, awaiting, showing, taking:
		t.reason = "the new daemon cannot be started: " + why
	case ending:
	default:
		return nil
	}
	return t.conclude()
}

// Gone goes on after the end of the active supervisor.
func (t *Taker) Gone() []Step {
	switch t.stage {
	case starting:
		t.alone = true
		return []Step{{Do: HangUp}}
	case ending:
		t.alone = true
		return nil
	case over:
		return nil
	}
	was := t.stage
	t.stage, t.deadline = over, time.Time{}
	steps := []Step{{Do: HangUp}}
	if was > preparing {
		steps = append(steps, Step{Do: Discard})
	}
	return append(steps, Step{Do: Seek})
}

// Expired goes on when Due is over.
func (t *Taker) Expired() []Step {
	switch t.stage {
	case greeting:
		return t.fail("the active supervisor does not answer: it may be stopped")
	case awaiting:
		return t.fail("the active supervisor sends no copies: it may be stopped")
	case taking:
		return t.fail("the active supervisor did not hand over in time")
	case starting:
		if t.alone { // there is nothing to go back to
			t.deadline = time.Time{}
			return nil
		}
		return t.fail("the new daemon does not serve in time")
	}
	return nil
}

// Quit ends what is under way, because this supervisor was told to end.
func (t *Taker) Quit() []Step {
	if t.stage == over || t.stage == ending || t.Alone() {
		return nil
	}
	return t.fail("it was told to end")
}

// Broken goes on after an error of the connection.
func (t *Taker) Broken(err error) []Step { return t.fail(err.Error()) }

// fail ends the attempt, unless the daemon serves already.
func (t *Taker) fail(reason string) []Step {
	if t.stage != starting {
		return t.end(reason)
	}
	t.reason = reason
	return []Step{{Do: Claim}}
}

// Claimed goes on after Claim. Who else has claimed the lease is about to say so.
func (t *Taker) Claimed(ok bool, now time.Time) []Step {
	if !ok {
		t.deadline = now.Add(t.times.Answer)
		return nil
	}
	return t.end(t.reason)
}

// end ends the daemon if there is one, and the attempt then.
func (t *Taker) end(reason string) []Step {
	if t.stage == over || t.stage == ending {
		return nil
	}
	t.reason = reason
	if t.stage >= preparing {
		t.stage, t.deadline = ending, time.Time{}
		return []Step{{Do: EndDaemon}}
	}
	return t.conclude()
}

// conclude tells the giver and is a standby again, or has failed.
func (t *Taker) conclude() []Step {
	was := t.stage
	var steps []Step
	if was > preparing {
		steps = append(steps, Step{Do: Discard})
	}
	if !t.alone && !t.untold {
		steps = append(steps, abort(t.reason))
	}
	if t.standby && was != greeting && !t.alone {
		t.stage, t.deadline = standing, time.Time{}
		return steps
	}
	t.stage, t.deadline = over, time.Time{}
	steps = append(steps, Step{Do: HangUp})
	if t.standby {
		return append(steps, Step{Do: Seek, Reason: t.reason, Refused: true})
	}
	return append(steps, Step{Do: Fail, Reason: t.reason})
}
