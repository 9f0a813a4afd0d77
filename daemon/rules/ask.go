// SPDX-License-Identifier: Apache-2.0

package rules

import "github.com/nsqueue/nsqueue/daemon/rules/internal/compile"

// Decision is the answer of a [List].
type Decision = compile.Decision

// Progress is how far a flow has come in a [List].
type Progress = compile.Progress

// What can be known of a [Flow].
const (
	FirstPacket = compile.Packet
	Everything  = compile.Everything
)
