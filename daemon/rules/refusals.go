// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"sync/atomic"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// refusals count what was refused of a pod. All its interfaces share them, so that they
// do not fall while one is left.
type refusals struct {
	count      atomic.Uint64
	interfaces int
}

// podName is what pods are counted by.
type podName struct{ namespace, name string }

func nameOf(a *inspect.Attachment) podName { return podName{a.PodNamespace, a.PodName} }

// acquireLocked returns the refusals of an attachment's pod.
func (i *Inspector) acquireLocked(a *inspect.Attachment) *refusals {
	r := i.refusals[nameOf(a)]
	if r == nil {
		r = new(refusals)
		i.refusals[nameOf(a)] = r
	}
	r.interfaces++
	return r
}

// releaseLocked forgets them with the last interface.
func (i *Inspector) releaseLocked(a *inspect.Attachment) {
	r := i.refusals[nameOf(a)]
	if r.interfaces--; r.interfaces == 0 {
		delete(i.refusals, nameOf(a))
	}
}
