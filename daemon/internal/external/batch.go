// SPDX-License-Identifier: Apache-2.0

package external

import (
	"slices"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// gathered is memory for the packets of a batch that go to one inspector.
type gathered struct {
	names    []string // of the inspectors that rules name
	to       []*Entry // that packets go to
	packets  []*inspect.Packet
	verdicts []inspect.Verdict
}

// clear makes room for a batch of n packets.
func (g *gathered) clear(n int) {
	g.names = slices.Grow(g.names[:0], n)[:n]
	g.to = slices.Grow(g.to[:0], n)[:n]
	clear(g.names)
	clear(g.to)
}

// Inspect judges a packet, as InspectBatch does.
func (r *Router) Inspect(p *inspect.Packet) inspect.Verdict {
	verdicts := [1]inspect.Verdict{}
	r.InspectBatch([]*inspect.Packet{p}, verdicts[:])
	return verdicts[0]
}

// InspectBatch has the packets of one pod judged by rules, and what they accept by the
// pod's inspector, or by the one that a rule names.
func (r *Router) InspectBatch(packets []*inspect.Packet, verdicts []inspect.Verdict) {
	g := r.spare.Get().(*gathered)
	defer r.spare.Put(g)
	g.clear(len(packets))
	if r.rules != nil {
		r.rules.InspectNaming(packets, verdicts, g.names)
	} else {
		for i := range verdicts {
			verdicts[i].Action = inspect.Accept
		}
	}
	if r.address(g, r.whole(packets[0].Attachment), verdicts) {
		g.ask(packets, verdicts)
	}
}

// address says which packet goes to whom, and whether any goes to anybody.
func (r *Router) address(g *gathered, whole *Entry, verdicts []inspect.Verdict) (some bool) {
	for i := range verdicts {
		v := &verdicts[i]
		switch {
		case g.names[i] != "":
			if g.to[i] = r.entry(g.names[i]); g.to[i] == nil { // no rule that is loaded does
				*v = inspect.Verdict{}
				continue
			}
		case whole != nil && v.Action == inspect.Accept:
			g.to[i] = whole
		default:
			continue
		}
		v.Settle, some = false, true
	}
	return some
}

// ask has each inspector judge its packets, all at once.
func (g *gathered) ask(packets []*inspect.Packet, verdicts []inspect.Verdict) {
	for first, to := range g.to {
		if to == nil {
			continue
		}
		if g.all(to) {
			to.Inspector.InspectBatch(packets, verdicts)
			return
		}
		g.packets, g.verdicts = g.packets[:0], g.verdicts[:0]
		for i := first; i < len(packets); i++ {
			if g.to[i] == to {
				g.packets = append(g.packets, packets[i])
				g.verdicts = append(g.verdicts, verdicts[i])
			}
		}
		to.Inspector.InspectBatch(g.packets, g.verdicts)
		at := 0
		for i := first; i < len(packets); i++ {
			if g.to[i] == to {
				verdicts[i], g.to[i] = g.verdicts[at], nil
				at++
			}
		}
		clear(g.packets)
		clear(g.verdicts)
	}
}

// all reports whether all packets go to one inspector.
func (g *gathered) all(to *Entry) bool {
	return !slices.ContainsFunc(g.to, func(e *Entry) bool { return e != to })
}
