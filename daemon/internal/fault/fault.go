// SPDX-License-Identifier: Apache-2.0

// Package fault names the points of an attachment's life at which a test can
// kill the daemon, to show that nothing is ever half attached. Only builds with
// the tag faultpoints can do it; in all others a point is nothing.
package fault

// Variable is the environment variable that names a file with the name of the
// point at which the process is to die.
const Variable = "NSQUEUE_FAULT"

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
