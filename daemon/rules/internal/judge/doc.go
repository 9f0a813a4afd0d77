// SPDX-License-Identifier: Apache-2.0

// Package judge decides packets of one pod by rules. A [Pod] has the pod's rules, the
// flows that it remembers, and the parsers of those that are not decided. [Pod.Judge]
// takes a packet and says what becomes of it.
//
// Nothing here starts goroutines, locks, does I/O or has a clock: times come in as
// durations since any fixed moment, by a clock that cannot be set. A Pod is for one
// goroutine at a time. So captures are judged as packets of a live pod are.
package judge
