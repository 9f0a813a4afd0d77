// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// inspectors says whether those outside nsqueued are there and keep up.
func (e *examination) inspectors() {
	if len(e.status.Inspectors) == 0 {
		e.ok(checkInspectors, "", "nsqueued has none outside itself")
		return
	}
	for i := range e.status.Inspectors {
		e.inspector(&e.status.Inspectors[i])
	}
}

func (e *examination) inspector(s *api.InspectorState) {
	fate := fmt.Sprintf("its packets get onFailure: %s", s.OnFailure)
	switch c := &s.Counters; {
	case s.Problem != "":
		e.add(Wrong, checkInspectors, s.Name, s.Problem+"; "+fate, "Mend that: nsqueued tries "+
			"again at once.")
	case !s.Connected:
		e.add(Wrong, checkInspectors, s.Name, "not connected to "+s.Socket+"; "+fate,
			"Start it, and look at its log. Events of the kind inspector say when it went and why.")
	case s.Stalled:
		e.add(Wrong, checkInspectors, s.Name, text.Process(s.PID)+" does not answer; "+fate,
			"Restart it. Another one that connects takes its place.")
	case c.Late > 0:
		e.add(Warning, checkInspectors, s.Name, text.Process(s.PID)+" is slow: "+
			text.Plural(int(c.Late), "packet")+" exceeded its budget", "Give it more processor "+
			"time, or raise its budget in nsqueued's configuration.")
	default:
		e.ok(checkInspectors, s.Name, "%s is connected", text.Process(s.PID))
	}
}
