// SPDX-License-Identifier: Apache-2.0

package rules

import "github.com/nsqueue/nsqueue/daemon/inspect"

// Sink is told what happens to flows. Its calls are made while a packet waits: they
// return at once, and keep nothing of the note. Calls for different pods are concurrent.
type Sink interface {
	// Note tells of a pod. The attachment is nil in a [Trial].
	Note(a *inspect.Attachment, pod *Pod, n *Note)
}
