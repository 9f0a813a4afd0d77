// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
)

// hookPoint is where packets meet the hook.
type hookPoint struct {
	name      string
	number    uint32
	direction hook.Directions
	// device is the key of the interface that a packet of the loopback device
	// has at this hook point; zero at forward, which has none.
	device expr.MetaKey
}

func hookPoints() []hookPoint {
	return []hookPoint{
		{"input", unix.NF_INET_LOCAL_IN, hook.In, expr.MetaKeyIIFTYPE},
		{"output", unix.NF_INET_LOCAL_OUT, hook.Out, expr.MetaKeyOIFTYPE},
		{"forward", unix.NF_INET_FORWARD, hook.Forward, 0},
	}
}

// base returns the two base chains of a hook point. Both have the same
// priority, and the one that settles comes first here: of equal priorities the
// kernel runs the hook that was registered later first. So packets meet the
// queue and then, with nothing between them whatever the pod may register, the
// chain that trusts what the verdict said.
func (p *hookPoint) base() (settle, queue chain) {
	return chain{name: "settle_" + p.name, point: &p.number},
		chain{name: p.name, point: &p.number}
}
