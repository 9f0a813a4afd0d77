// SPDX-License-Identifier: Apache-2.0

// Package rules decides packets of pods by rules that files have.
//
// [Load] reads files. An [Inspector] judges the packets of all pods of a node by them,
// and a [Trial] those of one pod that nobody waits for, such as those of a capture.
//
// The package starts no goroutine: who has an Inspector calls its Tick.
package rules
