// SPDX-License-Identifier: Apache-2.0

// Package trial asks rules about the packets of a capture, without nsqueued, and
// compares the answers with what somebody expects.
package trial

import (
	"cmp"
	"slices"

	"github.com/nsqueue/nsqueue/daemon/rules"
)

// Report is what rules say of a capture.
type Report struct {
	Flows []*Flow `json:"flows"`
	// Foreign is how many packets are neither from nor to the pod.
	Foreign int `json:"foreign,omitempty"`
	// Unreadable is how many packets no rule can judge: the failure policy would.
	Unreadable int `json:"unreadable,omitempty"`
	// Unmet are expectations that the flows do not meet.
	Unmet []string `json:"unmet,omitempty"`
}

// Flow is what rules say of a flow. A report has flows in the order of their first
// packets.
type Flow struct {
	// Pod is whose flow it is, where the capture has several pods.
	Pod      string `json:"pod,omitempty"`
	Client   string `json:"client"`
	Server   string `json:"server"`
	Protocol string `json:"protocol"`
	App      string `json:"app"`

	Answer

	// Messages are those of a flow of which each message is decided on its own. The
	// strictest answer is then that of the flow.
	Messages []Message `json:"messages,omitempty"`
	// Effects are what rules do besides deciding.
	Effects []Effect `json:"effects,omitempty"`
}

// Message is what rules say of a message: a question of DNS, or a request of HTTP.
type Message struct {
	Answer

	// Type is that of a question, and Response says that the server repeats it.
	Type     string `json:"type,omitempty"`
	Response bool   `json:"response,omitempty"`
	// Method and Path are those of a request.
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
}

// Answer is a decision.
type Answer struct {
	// Name is what the client asks for: the name of a server, or of a question.
	Name string `json:"name"`
	// Verdict is accept, inspect, drop, reject or undecided.
	Verdict string `json:"verdict"`
	// RuleSet and Rule are what decided, or has not yet. The set is empty where none
	// decided. Besides names of rules there are default, midstream (the flow is older
	// than the capture), conflict (a packet has other bytes than those that were sent
	// before) and subflow (a connection joins another one).
	RuleSet string `json:"ruleSet"`
	Rule    string `json:"rule"`
	// Packet is the number of the packet at which it was decided, as Wireshark counts.
	// It is 0 where none decided, but the end of the time for it.
	Packet int `json:"packet"`
	// Error is app.error.
	Error string `json:"error"`
}

// Effect is something that a rule does, or that a set which audits would do.
type Effect struct {
	RuleSet string `json:"ruleSet"`
	Rule    string `json:"rule"`
	Action  string `json:"action"`
	Audit   bool   `json:"audit,omitempty"`
}

// The rules that no file has.
const (
	byDefault  = "default"
	byConflict = "conflict"
	bySubflow  = "subflow"
)

// undecided is the verdict that is none.
const undecided = "undecided"

// strictness orders verdicts.
func strictness(verdict string) int {
	return slices.Index([]string{undecided, "accept", "inspect", "reject", "drop"}, verdict)
}

// RuleOf returns the names of what decided. The end of all sets is a default, too.
func RuleOf(set *rules.Set, rule *rules.Rule, midstream bool) (ruleSet, name string) {
	ruleSet, name = rules.NamesOf(set, rule, midstream)
	return ruleSet, cmp.Or(name, byDefault)
}

// nameOf returns what a client asks for.
func nameOf(f *rules.Flow) string { return cmp.Or(f.TLSServerName, f.HTTPHost, f.DNSName) }
