// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"container/list"
	"net/netip"
	"slices"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// mostFlows bounds the flows that a feed remembers. The page has as many.
const mostFlows = 4096

// flow is a row of the page: packets of a pod between the same two ends.
type flow struct {
	ID  uint64 `json:"id"`
	Key string `json:"key"`
	Pod string `json:"pod"`
	// Direction is out where the pod seems to have opened the flow.
	Direction string    `json:"direction"`
	Protocol  string    `json:"protocol"`
	Pods      string    `json:"podEnd"`
	Other     string    `json:"otherEnd"`
	Packets   uint64    `json:"packets"`
	Bytes     uint64    `json:"bytes"`
	Verdict   string    `json:"verdict"`
	Rule      string    `json:"rule"`
	Last      time.Time `json:"last"`
	// Names are what the pod has asked the server's address for, on its port, and got
	// the like of this verdict.
	Names []string `json:"names"`

	server  asked
	changed bool
}

type flowKey struct {
	key        api.Key
	protocol   string
	pod, other netip.AddrPort
}

// asked is a server that a pod knows by names.
type asked struct {
	pod    api.Pod
	server netip.AddrPort
	// refused are names that the pod was not allowed to ask the server for.
	refused bool
}

// flowTable makes flows of packets. One goroutine at a time uses it.
type flowTable struct {
	flows map[flowKey]*list.Element
	order list.List // of *entry, the one with the last packet in front
	count uint64
	names map[asked][]string
}

type entry struct {
	key  flowKey
	flow flow
}

func newFlowTable() *flowTable { return &flowTable{flows: make(map[flowKey]*list.Element)} }

func (t *flowTable) add(e *api.PacketEvent) {
	k := flowKey{key: e.Key, protocol: e.Protocol}
	k.pod = netip.AddrPortFrom(e.Source, e.SourcePort)
	k.other = netip.AddrPortFrom(e.Destination, e.DestinationPort)
	if e.Direction == "in" {
		k.pod, k.other = k.other, k.pod
	}
	element := t.flows[k]
	if element == nil {
		element = t.begin(k, e)
	}
	t.order.MoveToFront(element)
	f := &element.Value.(*entry).flow
	f.Packets++
	f.Bytes += uint64(e.Length)
	f.Last, f.Verdict, f.changed = e.Time, e.Verdict, true
	if e.Rule != "" {
		f.Rule = e.Rule
	}
	f.server.refused = isRefused(e.Verdict)
	f.Names = t.names[f.server]
}

func isRefused(verdict string) bool { return verdict == "drop" || verdict == "reject" }

func (t *flowTable) begin(k flowKey, e *api.PacketEvent) *list.Element {
	if len(t.flows) >= mostFlows {
		oldest := t.order.Remove(t.order.Back()).(*entry)
		delete(t.flows, oldest.key)
	}
	t.count++
	direction := opened(k, e.Direction)
	server := k.other
	if direction == "in" {
		server = k.pod
	}
	f := flow{
		ID: t.count, Key: e.Key.String(), Pod: e.Pod.String(), Direction: direction,
		Protocol: e.Protocol, Pods: end(k.pod), Other: end(k.other),
		server: asked{
			pod: api.Pod{Namespace: e.Pod.Namespace, Name: e.Pod.Name}, server: server,
		},
	}
	element := t.order.PushFront(&entry{k, f})
	t.flows[k] = element
	return element
}

// ephemeral is the first port that kernels give to clients.
const ephemeral = 32768

// opened guesses who has opened a flow of which only some packets were seen: the end
// with a client's port, or else the one that sent the first of them.
func opened(k flowKey, direction string) string {
	pod, other := k.pod.Port() >= ephemeral, k.other.Port() >= ephemeral
	switch {
	case pod && !other:
		return "out"
	case other && !pod:
		return "in"
	}
	return direction
}

// end prints an end of a flow, with its port where there is one.
func end(a netip.AddrPort) string {
	switch {
	case !a.Addr().IsValid():
		return ""
	case a.Port() == 0:
		return a.Addr().String()
	}
	return a.String()
}

// learn takes the names that pods have asked for.
func (t *flowTable) learn(observed []api.ObservedName) {
	t.names = make(map[asked][]string)
	for i := range observed {
		n := &observed[i]
		for _, address := range n.Addresses {
			k := asked{
				api.Pod{Namespace: n.Namespace, Name: n.Pod},
				netip.AddrPortFrom(address, uint16(n.Port)), isRefused(n.Verdict),
			}
			if n.App != "dns" && !slices.Contains(t.names[k], n.Name) {
				t.names[k] = append(t.names[k], n.Name)
			}
		}
	}
	for element := t.order.Front(); element != nil; element = element.Next() {
		f := &element.Value.(*entry).flow
		if names := t.names[f.server]; len(names) > 0 && !slices.Equal(names, f.Names) {
			f.Names, f.changed = names, true
		}
	}
}

// take returns the flows that have changed since the last call, the oldest packet first.
func (t *flowTable) take() []flow {
	changed := []flow{}
	for element := t.order.Back(); element != nil; element = element.Prev() {
		if f := &element.Value.(*entry).flow; f.changed {
			f.changed = false
			changed = append(changed, *f)
		}
	}
	return changed
}
