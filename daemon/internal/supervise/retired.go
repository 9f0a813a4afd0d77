// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"log/slog"

	"github.com/nsqueue/nsqueue/daemon/internal/succession"
)

// retired reports whether this installation leaves the node, which does not end any more:
// the daemon attaches nothing, and no successor is waited for.
func (h *shared) retired() bool {
	if h == nil || h.leaves {
		return h != nil
	}
	path := succession.RetirementPath(h.s.config.HandoverDir)
	yes, err := succession.IsRetired(path, h.self.Instance, h.began)
	if err != nil && !h.unreadable {
		h.s.log.Error("cannot see whether this installation leaves the node; going on",
			slog.Any("error", err))
	}
	h.unreadable = err != nil
	if yes {
		h.s.log.Info("this installation leaves the node")
	}
	h.leaves = yes
	return yes
}
