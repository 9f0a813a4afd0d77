// SPDX-License-Identifier: Apache-2.0

package server

import (
	"sync/atomic"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// counters are those of an api.InspectorState.
type counters struct {
	packets, batches, answered      atomic.Uint64
	lost, late, away, overflow      atomic.Uint64
	connections, refused, malformed atomic.Uint64
}

func (c *counters) read() api.InspectorCounters {
	return api.InspectorCounters{
		Packets: c.packets.Load(), Batches: c.batches.Load(), Answered: c.answered.Load(),
		Lost: c.lost.Load(), Late: c.late.Load(), Away: c.away.Load(),
		Overflow:    c.overflow.Load(),
		Connections: c.connections.Load(), Refused: c.refused.Load(),
		Malformed: c.malformed.Load(),
	}
}

// State says how the inspector is.
func (s *Server) State() api.InspectorState {
	st := api.InspectorState{
		Name: s.config.Name, Kind: api.ReaderInspector, Socket: s.config.Socket,
		Transport: "messages", OnFailure: s.config.Failure, Counters: s.counters.read(),
	}
	switch {
	case s.config.Memory:
		st.Transport = "memfd"
	case s.config.Lends:
		st.Transport = "descriptor"
	}
	for _, n := range s.all() {
		if n.whole {
			st.Attachments++
		}
	}
	if p := s.problem.Load(); p != nil {
		st.Problem = *p
	}
	l := s.link.Load()
	if l == nil {
		return st
	}
	since := l.since.UTC()
	st.Connected, st.Since, st.Client = true, &since, l.hello.Name
	st.PID, st.UID, st.Stalled = l.peer.pid, l.peer.uid, l.isStalled()
	return st
}
