// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// mostRefusals may wait until they are delivered, which is done each tick.
const mostRefusals = 1024

// maxText is how much of a text from a packet is remembered.
const maxText = 255

// refusals hands what was refused to a reporter, while no packet waits for that.
type refusals struct {
	waiting chan *api.Event
	dropped *atomic.Uint64
}

func newRefusals() refusals {
	return refusals{waiting: make(chan *api.Event, mostRefusals), dropped: new(atomic.Uint64)}
}

// add takes a refusal, and counts it as dropped where there is no room.
func (r *refusals) add(a *inspect.Attachment, n *rules.Note, rule string, suppressed uint64) {
	event := &api.Event{
		Time: time.Now().UTC(), Kind: api.EventRefusal,
		Key:     api.Key{ContainerID: a.ContainerID, Ifname: a.Ifname},
		Pod:     api.Pod{Namespace: a.PodNamespace, Name: a.PodName, UID: a.PodUID},
		Refusal: refusalOf(n),
	}
	if n.Audit {
		event.Kind = api.EventAudit
	}
	event.Refusal.Rule, event.Refusal.Suppressed = rule, suppressed
	event.Message = event.Refusal.Text(n.Audit)
	select {
	case r.waiting <- event:
	default:
		r.dropped.Add(1)
	}
}

// deliver hands over what waits by now.
func (r *refusals) deliver(to Reporter) {
	for range len(r.waiting) {
		to.ReportRefusal(*<-r.waiting)
	}
}

// isRefusal reports whether something was refused, or would have been.
func isRefusal(n *rules.Note) bool {
	return n.Kind != rules.Effect && worthAnEvent(n) ||
		n.Audit && (n.Action == rules.RejectIt || n.Action == rules.DropIt)
}

// refusalOf keeps nothing of the note: its texts are in a packet.
func refusalOf(n *rules.Note) api.Refusal {
	f := n.Flow
	r := api.Refusal{
		Verdict: actionOf(n).String(), Direction: f.Direction, Protocol: f.Protocol,
		Address: f.ServerIP.String(), Port: uint16(f.ServerPort), App: f.AppProtocol,
		Name: copyText(askedName(f)), Count: 1,
	}
	if f.Direction != "out" {
		r.Address = f.ClientIP.String()
	}
	if n.Rule != nil {
		r.Note = copyText(n.Rule.Message(f))
	}
	return r
}

// askedName is what a message is about, also that of a server.
func askedName(f *rules.Flow) string {
	if f.AppProtocol == "dns" {
		return f.DNSName
	}
	return nameOf(f)
}

func copyText(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.Clone(strings.ToValidUTF8(s, "\uFFFD"))
}
