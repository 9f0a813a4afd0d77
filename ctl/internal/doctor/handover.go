// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"time"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// longStandby is more than a rollout leaves an old supervisor beside a new one.
const longStandby = time.Hour

// handover says how the supervisors of this node get on with each other.
func (e *examination) handover() {
	h := e.status.Supervisor.Handover
	if h == nil {
		e.ok(checkHandover, "", "no other supervisor can take over here")
		return
	}
	found := e.refusedTakeOvers(h)
	for i := range h.Peers {
		p := &h.Peers[i]
		if age := time.Since(p.Since); p.Role == api.RoleStandby && age > longStandby {
			found = true
			e.add(Warning, checkHandover, p.Instance,
				fmt.Sprintf("a supervisor of version %s has been a standby for %s: its pod or "+
					"container was not ended after the hand-over", p.Version, text.Age(age)),
				"See why the old pod is still there (kubectl get pods -o wide), and delete it.")
		}
	}
	if !found {
		e.ok(checkHandover, h.Instance, "the supervisor is %s, %s", h.Role,
			text.Plural(len(h.Peers), "other supervisor"))
	}
}

// refusedTakeOvers reports those since the last hand-over.
func (e *examination) refusedTakeOvers(h *api.Handover) bool {
	last := h.LastRefusal
	if last == nil {
		return false
	}
	e.add(Warning, checkHandover, last.Instance,
		fmt.Sprintf("%s did not come about, the last one %s ago, of version %s: %s",
			text.Plural(h.Refusals, "take-over"), text.Age(time.Since(last.At)), last.Version,
			last.Reason),
		"Correct what the reason says, and see the log of the new supervisor (kubectl logs).")
	return true
}
