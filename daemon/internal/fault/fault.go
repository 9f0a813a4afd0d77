// SPDX-License-Identifier: Apache-2.0

// Package fault names the points of an attachment's life, and of a hand-over between
// supervisors, at which a test can kill or stop the process, to show that nothing is
// ever half done. Only builds with the tag faultpoints can do it; in all others a
// point is nothing.
package fault

// Variable is the environment variable that names a file with the name of the
// point at which the process is to die, or, after [Stop], to be stopped.
const Variable = "NSQUEUE_FAULT"

// Stop before the name of a point has the process stopped there (SIGSTOP).
const Stop = "stop "

// Haste is the environment variable with the number by which [Hurried] divides.
const Haste = "NSQUEUE_HASTE"

// Point is a moment between two steps.
type Point string

// The points of attaching, in their order. Without a hook that has a socket, or
// a supervisor that keeps it, HookKept is not passed.
const (
	AttachRecorded Point = "attach: recorded"
	QueueOpened    Point = "attach: queue opened"
	QueueKept      Point = "attach: queue kept"
	QueueBound     Point = "attach: queue bound"
	HookOpened     Point = "attach: hook opened"
	HookKept       Point = "attach: hook kept"
	Armed          Point = "attach: armed"
	AttachDone     Point = "attach: done"
)

// The points of detaching, in their order.
const (
	DetachRecorded Point = "detach: recorded"
	Disarmed       Point = "detach: disarmed"
	Drained        Point = "detach: drained"
	LetGo          Point = "detach: let go"
	HookRemoved    Point = "detach: hook removed"
	DetachDone     Point = "detach: parted"
)

// SpoolCarriedOut lies between the effect of a spooled call and the removal of
// its file.
const SpoolCarriedOut Point = "spool: carried out"

// The points of a daemon that takes up what one before it has left, in their order. From
// Claimed on there is no way back.
const (
	Came      Point = "take up: descriptors came"
	Inherited Point = "take up: queues read"
	Restored  Point = "take up: attachments restored"
	Claimed   Point = "take up: claimed"
	Owned     Point = "take up: state directory locked"
)

// The points of a supervisor that takes over from another one, in their order.
const (
	TakeConnected   Point = "take: connected"
	TakeOffered     Point = "take: offered"
	TakePrepared    Point = "take: daemon prepared"
	TakeDescriptors Point = "take: descriptors received"
	TakeCopied      Point = "take: copies received"
	TakeSeen        Point = "take: copies seen by the daemon"
	TakeSent        Point = "take: sent"
	TakeAll         Point = "take: all received"
	TakeHave        Point = "take: have sent"
	TakeDelivered   Point = "take: delivered to the daemon"
	TakeServing     Point = "take: daemon ready"
	TakeReady       Point = "take: ready sent"
)

// The points of the one that gives, in their order.
const (
	GiveConnected   Point = "give: connected"
	GiveOffered     Point = "give: offered"
	GiveCopies      Point = "give: about to copy"
	GiveCopied      Point = "give: copied"
	GiveStopping    Point = "give: daemon told to stop"
	GiveStopped     Point = "give: daemon stopped"
	GiveDescriptors Point = "give: about to send"
	GiveAll         Point = "give: all sent"
	GiveHad         Point = "give: have received"
	GiveReady       Point = "give: ready received"
	GiveLetGo       Point = "give: let go"
)

// Taking returns the points of taking over.
func Taking() []Point {
	return []Point{
		TakeConnected, TakeOffered, TakePrepared, TakeDescriptors, TakeCopied, TakeSeen,
		TakeSent, TakeAll, TakeHave, TakeDelivered, TakeServing, TakeReady,
	}
}

// Giving returns the points of giving.
func Giving() []Point {
	return []Point{
		GiveConnected, GiveOffered, GiveCopies, GiveCopied, GiveStopping, GiveStopped,
		GiveDescriptors, GiveAll, GiveHad, GiveReady, GiveLetGo,
	}
}

// Attaching returns the points of attaching.
func Attaching() []Point {
	return []Point{
		AttachRecorded, QueueOpened, QueueKept, QueueBound, HookOpened, HookKept, Armed, AttachDone,
	}
}

// Detaching returns the points of detaching.
func Detaching() []Point {
	return []Point{DetachRecorded, Disarmed, Drained, LetGo, HookRemoved, DetachDone}
}
