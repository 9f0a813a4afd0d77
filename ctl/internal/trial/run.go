// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"errors"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules"
	"github.com/nsqueue/nsqueue/internal/pcap"
)

// Options say whose packets a capture has.
type Options struct {
	// Pod is what rules can ask about the pod. Without a name, it is the pod that the
	// capture says.
	Pod rules.Pod
	// Addresses are the pod's. Without any, they are those that the capture says, or of
	// the client of its first flow.
	Addresses []netip.Addr
}

// Run judges the packets of a capture, each pod's by its rules.
func Run(r *rules.Rules, capture *pcap.Reader, o Options) (*Report, error) {
	t := &test{
		rules: r, options: o, report: Report{Flows: []*Flow{}},
		side: sides{addresses: slices.Clone(o.Addresses), given: len(o.Addresses) > 0},
		pods: make(map[string]*recorder),
	}
	for {
		p, err := capture.Next()
		if errors.Is(err, io.EOF) {
			return t.end(), nil
		}
		if err != nil {
			return nil, err
		}
		if whole, ok := t.fragments.join(&p); ok {
			t.judge(whole)
		}
	}
}

// test is one run.
type test struct {
	rules   *rules.Rules
	options Options
	report  Report
	side    sides

	fragments defragmenter

	pods  map[string]*recorder // by the name in the capture, if it has names
	flows []seen
	start time.Time
	at    time.Duration
}

// seen is a flow in the order of first packets.
type seen struct {
	of *recorder
	id uint64
}

// judge judges a packet.
func (t *test) judge(p *pcap.Packet) {
	direction, ok := t.side.direction(p)
	if !ok {
		t.report.Foreign++
		return
	}
	packet := inspect.Packet{Direction: direction, Payload: p.IP, Length: p.Length, UID: -1}
	packet.Checksum = checksum(p, direction)
	r := t.recorder(p.Interface)
	r.number = p.Number
	o := r.trial.Judge(&packet, t.moment(p.Time))
	switch {
	case o.Action == rules.None:
		t.report.Unreadable++
	case o.Flow != 0 && r.seen(o.Flow):
		t.flows = append(t.flows, seen{r, o.Flow})
	}
}

// moment returns how long after the first packet one came. Clocks of captures go back at
// times, which the time here does not.
func (t *test) moment(of time.Time) time.Duration {
	if t.start.IsZero() {
		t.start = of
	}
	t.at = max(t.at, of.Sub(t.start))
	return t.at
}

// recorder returns that of the pod whose packets an interface has.
func (t *test) recorder(i *pcap.Interface) *recorder {
	namespace, name, named := i.Pod()
	key := ""
	if named {
		key = namespace + "/" + name
	}
	if r := t.pods[key]; r != nil {
		return r
	}
	pod := t.options.Pod
	if pod.Name == "" && named {
		pod.Namespace, pod.Name = namespace, name
	}
	r := &recorder{pod: key, flows: make(map[uint64]*Flow), known: make(map[uint64]bool)}
	r.trial = t.rules.Try(&pod, r)
	t.pods[key] = r
	return r
}

// end returns the report. Where the capture has the pod that was asked for, the others
// are left out.
func (t *test) end() *Report {
	for _, r := range t.pods {
		r.trial.End()
	}
	only, filtered := t.pods[t.options.Pod.Namespace+"/"+t.options.Pod.Name]
	for _, s := range t.flows {
		f := s.of.flows[s.id]
		if f == nil || filtered && s.of != only {
			continue
		}
		if len(t.pods) == 1 || filtered {
			f.Pod = ""
		}
		t.report.Flows = append(t.report.Flows, f)
	}
	return &t.report
}

// seen notes that a packet of a flow was seen, and reports whether it is the first.
func (r *recorder) seen(flow uint64) bool {
	first := !r.known[flow]
	r.known[flow] = true
	return first
}
