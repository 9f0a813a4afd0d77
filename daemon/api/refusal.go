// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net"
	"strconv"
	"strings"
)

// Refusal is what rules refused of a pod's, or would have in mode Audit.
type Refusal struct {
	// Rule is what decided, as that of a [PacketEvent].
	Rule string `json:"rule"`
	// Verdict is reject or drop. In an event of kind audit it was not carried out.
	Verdict string `json:"verdict"`
	// Direction is out where the pod opened the flow, and in where somebody else did.
	Direction string `json:"direction"`
	Protocol  string `json:"protocol"`
	// Address is the other end's, and Port the server's; 0 for none.
	Address string `json:"address"`
	Port    uint16 `json:"port,omitempty"`
	// App is what the client speaks, and Name what it asks for; empty if not known.
	App  string `json:"app,omitempty"`
	Name string `json:"name,omitempty"`
	// Note is the message of the rule, for this flow.
	Note string `json:"note,omitempty"`
	// Count is how often the event came: one that is like an earlier one takes its
	// place.
	Count uint64 `json:"count"`
	// Suppressed is how many of the same pod and rule came too fast to be told.
	Suppressed uint64 `json:"suppressed,omitempty"`
}

// Alike reports whether two refusals are of the same thing.
func (r Refusal) Alike(other Refusal) bool {
	other.Count, other.Suppressed = r.Count, r.Suppressed
	return r == other
}

// Text says in a line what was refused. It has names as the pod wrote them.
func (r *Refusal) Text(audit bool) string {
	var b strings.Builder
	word := map[string]string{"reject": "rejected", "drop": "dropped"}[r.Verdict]
	if audit {
		b.WriteString("would be ")
	}
	b.WriteString(word + " by " + r.Rule + ": " + r.Protocol)
	if r.Direction == "out" {
		b.WriteString(" to " + r.end())
	} else {
		b.WriteString(" from " + r.Address)
		if r.Port != 0 {
			b.WriteString(" to port " + strconv.Itoa(int(r.Port)))
		}
	}
	if r.App != "" {
		b.WriteString(", " + strings.TrimSpace(r.App+" "+r.Name))
	}
	if r.Note != "" {
		b.WriteString(": " + r.Note)
	}
	return b.String()
}

// end is the server where the pod is not.
func (r *Refusal) end() string {
	if r.Port == 0 {
		return r.Address
	}
	return net.JoinHostPort(r.Address, strconv.Itoa(int(r.Port)))
}
