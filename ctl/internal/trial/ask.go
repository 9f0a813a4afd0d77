// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"net/netip"
	"strings"

	"github.com/nsqueue/nsqueue/daemon/rules"
)

// Question is what is known of a flow that rules are asked about.
type Question struct {
	Pod rules.Pod
	// Incoming says that the pod is the server.
	Incoming       bool
	Protocol       string
	Client, Server netip.AddrPort
	UID            int64 // −1 if not known
	// Resolved are the names that the pod knows for the server.
	Resolved []string
	// App is what is spoken; empty if the client has said nothing yet.
	App string
	// Name is what the client asks for: the name of a server, or of a question.
	Name, DNSType, Method, Path string
}

// Reply is what rules say.
type Reply struct {
	Verdict string `json:"verdict"`
	RuleSet string `json:"ruleSet"`
	Rule    string `json:"rule"`
	// File and Line are where the rule is, or the set whose default it is.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// When is the condition of the rule, and Message what it has to say.
	When    string   `json:"when,omitempty"`
	Message string   `json:"message,omitempty"`
	Effects []Effect `json:"effects,omitempty"`
	// WaitsFor are the variables that an undecided flow waits for.
	WaitsFor []string `json:"waitsFor,omitempty"`
	// Sets is how many sets concern the pod.
	Sets int `json:"sets"`
}

// Ask asks rules about a flow that nobody opens.
func Ask(r *rules.Rules, q *Question) Reply {
	var progress rules.Progress
	list, f := r.Of(&q.Pod), q.flow()
	d := list.Decide(f, &progress)
	a := Reply{Verdict: d.Verdict.String(), Sets: len(list.Sets())}
	a.RuleSet, a.Rule = RuleOf(d.Set, d.Rule, d.Midstream)
	if d.Set != nil {
		a.File, a.Line = d.Set.Source, d.Set.Line
	}
	if d.Rule != nil {
		a.Line, a.When, a.Message = d.Rule.Line, d.Rule.When, d.Rule.Message(f)
	}
	if d.Verdict == rules.Undecided {
		a.WaitsFor, a.Message = d.WaitsFor(f), ""
	}
	for _, effect := range progress.Effects {
		e := Effect{Action: effect.Action.String(), Audit: effect.Audit}
		e.RuleSet, e.Rule = RuleOf(effect.Set, effect.Rule, effect.Midstream)
		a.Effects = append(a.Effects, e)
	}
	return a
}

func (q *Question) flow() *rules.Flow {
	f := &rules.Flow{
		Known: rules.FirstPacket, Pod: &q.Pod, Direction: "out", Protocol: q.Protocol, Family: 6,
		ClientIP: q.Client.Addr(), ServerIP: q.Server.Addr(), SocketUID: q.UID,
		ClientPort: int64(q.Client.Port()), ServerPort: int64(q.Server.Port()),
		ServerNames: q.Resolved,
	}
	if q.Incoming {
		f.Direction = "in"
	}
	if q.Client.Addr().Is4() {
		f.Family = 4
	}
	app := q.App
	if app == "" && q.Protocol != "tcp" && q.Protocol != "udp" {
		app = "none" // nobody looks into these
	}
	if app != "" {
		f.KnowApp(app)
		f.Known = rules.Everything
	}
	q.addMessage(f)
	return f
}

// addMessage adds what the client says.
func (q *Question) addMessage(f *rules.Flow) {
	name := strings.TrimSuffix(strings.ToLower(q.Name), ".")
	switch q.App {
	case "tls", "quic":
		f.TLSServerName = name
	case "dns":
		f.DNSName, f.DNSType = name, q.DNSType
	case "http":
		f.HTTPHost, f.HTTPMethod, f.HTTPVersion = name, q.Method, "1.1"
		f.HTTPPath, f.HTTPQuery, _ = strings.Cut(q.Path, "?")
	}
}
