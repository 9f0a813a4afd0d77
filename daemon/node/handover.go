// SPDX-License-Identifier: Apache-2.0

package node

import (
	"log/slog"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/succession"
)

// handover is what the supervisor says of itself and of others, nil where there can be
// no others.
func (s *supervised) handover() *api.Handover {
	path := s.RoleFile()
	if path == "" {
		return nil
	}
	r, err := succession.ReadReport(path)
	if err != nil {
		s.log.Warn("cannot read the supervisor's role; status shows none", slog.Any("error", err))
		return nil
	}
	h := &api.Handover{
		Role: api.SupervisorRole(r.Role), Since: r.Since, Instance: r.Instance,
		TakeOvers: r.TakeOvers, Refusals: r.Refusals, Ending: r.Ending,
	}
	for _, p := range r.Peers {
		h.Peers = append(h.Peers, api.HandoverPeer{
			Role: api.SupervisorRole(p.Role), Version: p.Version, Instance: p.Instance,
			Since: p.Since,
		})
	}
	if last := r.LastRefusal; last != nil {
		h.LastRefusal = &api.HandoverRefusal{
			At: last.At, Version: last.Version, Instance: last.Instance, Reason: last.Reason,
		}
	}
	return h
}
