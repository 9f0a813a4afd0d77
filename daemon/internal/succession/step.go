// SPDX-License-Identifier: Apache-2.0

package succession

import "time"

// Do is a thing that a side has its caller do.
type Do string

// What the giver has done.
const (
	// StopDaemon in order; call [Giver.DaemonStopped] after its end.
	StopDaemon Do = "stop the daemon"
	// SendAll that is held, and the message All; call [Giver.Sent] then.
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

// The times after which the side that is not stopped goes on without the other.
const (
	// Answer is how long a short answer may take.
	Answer = 10 * time.Second
	// Preparing is how long a standby may take to prepare its daemon.
	Preparing = 15 * time.Second
	// Stopping is how long the giver may take from Take to All. It kills its
	// daemon after StopLimit.
	Stopping  = 30 * time.Second
	StopLimit = 15 * time.Second
	// Starting is how long the taker's daemon may take until it serves, and
	// giverPatience how long the giver waits for that.
	Starting      = 30 * time.Second
	giverPatience = 40 * time.Second
)
