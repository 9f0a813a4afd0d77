// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// rejects says why ends of flows were not told that their packets are rejected. They wait
// for their own timeouts then.
func (e *examination) rejects() {
	n := &e.status.Counters
	u := e.status.Untold
	switch {
	case n.Untold == 0:
		e.ok(checkRejects, "", "the ends of %s were told", text.Plural(int(n.Rejected),
			"rejected packet"))
	case u == nil:
		e.add(Unknown, checkRejects, "", text.Plural(int(n.Untold), "rejected packet")+
			" had an end that was not told; this nsqueued does not report why", "")
	default:
		e.untold(u)
	}
}

// untold reports each reason.
func (e *examination) untold(u *api.Untold) {
	const since = " since nsqueued has started, so that clients wait for their own timeouts: "
	warn := func(n uint64, why, remedy string) {
		if n > 0 {
			e.add(Warning, checkRejects, "", "an end of "+text.Plural(int(n), "rejected packet")+
				" was not told"+since+why, remedy)
		}
	}
	if u.NotPermitted {
		warn(u.NoSocket, "nsqueued lacks CAP_NET_RAW ("+u.SocketError+")",
			"Give nsqueued CAP_NET_RAW: by CapabilityBoundingSet in its unit, or by "+
				"capabilities.add of its container. Then restart it.")
	} else {
		warn(u.NoSocket, "nsqueued cannot open a raw socket in the pod's netns ("+
			u.SocketError+")", "Remove what the error is about. nsqueued tries again each second.")
	}
	warn(u.Unsent, "the pod's kernel took no answer ("+u.SendError+")",
		"Look for rules in the pod's netns that drop what leaves it. Packets with a source that "+
			"is not the pod's are counted here, too, and need no answer.")
	warn(u.TooMany, "a pod had more than 1,000 a second",
		"Find the pod by nsqueuectl stats, and mend what tries again so often. Rules that drop "+
			"instead tell nobody.")
}
