// SPDX-License-Identifier: Apache-2.0

package succession

import "time"

// Do is a thing that a side has its caller do.
type Do string

// What the giver has done.
const (
	// SendCopies of all that is held, and the message Copied; call [Giver.Sent] then.
	SendCopies Do = "send copies"
	// StopDaemon in order; call [Giver.DaemonStopped] after its end.
	StopDaemon Do = "stop the daemon"
	// SendAll that is held and was not copied, and the message All; call [Giver.Sent]
	// then.
	SendAll Do = "send all descriptors"
	// Resume: start the daemon with what is held, as soon as none runs. One that
	// runs and was not told to stop goes on.
	Resume Do = "resume"
	// LetGo of all copies, and be a standby.
	LetGo Do = "let go"
)

// What the taker has done.
const (
	// Prepare a daemon that waits for descriptors; call [Taker.Prepared] or
	// [Taker.DaemonEnded].
	Prepare Do = "prepare a daemon"
	// Show the daemon the copies; call [Taker.Seen] or [Taker.DaemonEnded].
	Show Do = "show the copies to the daemon"
	// Deliver to the daemon what has come.
	Deliver Do = "deliver"
	// EndDaemon; call [Taker.DaemonEnded].
	EndDaemon Do = "end the daemon"
	// Discard what has come.
	Discard Do = "discard"
	// Activate: this supervisor is the active one.
	Activate Do = "activate"
	// Seek the active supervisor, or the lock, again.
	Seek Do = "seek"
	// Fail for the reason.
	Fail Do = "fail"
)

// What both have done.
const (
	// Send the message.
	Send Do = "send"
	// Claim the lease, and call Claimed with the outcome.
	Claim Do = "claim the lease"
	// HangUp closes the connection.
	HangUp Do = "hang up"
)

// Step is what the caller does next. Steps are done in their order.
type Step struct {
	Do Do
	// Message of Send.
	Message Message
	// Reason of Resume, Fail and HangUp; empty where nothing went wrong.
	Reason string
	// Refused of Resume and HangUp: a supervisor wanted to take over, and did not. Of
	// Seek: it will be so again soon.
	Refused bool
}

func send(m Message) Step { return Step{Do: Send, Message: m} }

func abort(reason string) Step { return send(Message{Kind: Abort, Reason: reason}) }

// Times are those after which the side that is not stopped goes on without the other.
type Times struct {
	// Answer is how long a short answer may take.
	Answer time.Duration
	// Prepare is how long a standby may take to prepare its daemon, and any taker to have
	// that look at the copies.
	Prepare time.Duration
	// Stop is how long the giver may take from Take to All. It kills its daemon before
	// that.
	Stop time.Duration
	// Start is how long the taker's daemon may take until it serves.
	Start time.Duration
}

// DefaultTimes are those of a node in use.
func DefaultTimes() Times {
	return Times{
		Answer: 10 * time.Second, Prepare: 15 * time.Second,
		Stop: 30 * time.Second, Start: 30 * time.Second,
	}
}

// StopDaemon is when the giver kills its daemon.
func (t *Times) StopDaemon() time.Duration { return t.Stop / 2 }

// patience is how long the giver waits for the taker's daemon: the taker, if it is not
// stopped, has given up before that, and ended it.
func (t *Times) patience() time.Duration { return t.Start + t.Stop/2 }
