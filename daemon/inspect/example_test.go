// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// dnsQuery is a packet of 10.244.1.2 to port 53 of 10.96.0.10.
func dnsQuery() *inspect.Packet {
	return &inspect.Packet{
		Direction: inspect.Out, Mark: 0x42, Length: 28, Payload: []byte{
			0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 244, 1, 2, 10, 96, 0, 10, // IPv4
			0xc0, 0x01, 0, 53, 0, 8, 0, 0, // UDP
		},
	}
}

// An inspector that lets pods resolve names and nothing else, and marks what it
// lets pass.
func ExampleInspector() {
	onlyDNS := inspect.Func(func(p *inspect.Packet) inspect.Verdict {
		flow, ok := p.Flow()
		if !ok || flow.DestinationPort != 53 {
			return inspect.Verdict{Action: inspect.Drop}
		}
		return inspect.Verdict{Action: inspect.Accept, Mark: 1 << 24, MarkMask: 0xff << 24}
	})

	query := dnsQuery()
	v := onlyDNS.Inspect(query)
	fmt.Printf("%s, mark %#08x\n", v.Action, v.ApplyMark(query.Mark, 0xff000000))
	// Output: accept, mark 0x01000042
}

func ExamplePacket_Flow() {
	flow, ok := dnsQuery().Flow()
	if !ok {
		fmt.Println("malformed or cut off")
		return
	}
	fmt.Println(inspect.ProtocolName(flow.Protocol), flow.Source, flow.SourcePort, "->",
		flow.Destination, flow.DestinationPort)
	// Output: udp 10.244.1.2 49153 -> 10.96.0.10 53
}

// meter counts bytes, for which headers are enough.
type meter struct{ bytes atomic.Int64 }

func (*meter) Needs() inspect.Needs { return inspect.Needs{CopyRange: 100} }

func (m *meter) Inspect(p *inspect.Packet) inspect.Verdict {
	m.bytes.Add(int64(p.Length))
	return inspect.Verdict{Action: inspect.Accept}
}

// An inspector that declares what it needs: here no more than the first 100 bytes
// of each packet.
func ExampleDeclarer() {
	m := &meter{}
	var d inspect.Declarer = m
	d.Inspect(dnsQuery())
	fmt.Println(m.bytes.Load(), "bytes, copied at most", d.Needs().CopyRange, "of each packet")
	// Output: 28 bytes, copied at most 100 of each packet
}

// gate settles every flow by a rule that changes at run time.
type gate struct {
	closed  atomic.Bool
	changes chan struct{}
}

func (*gate) Needs() inspect.Needs       { return inspect.Needs{Settles: true} }
func (g *gate) Changes() <-chan struct{} { return g.changes }

func (g *gate) Inspect(*inspect.Packet) inspect.Verdict {
	if g.closed.Load() {
		return inspect.Verdict{Action: inspect.Drop, Settle: true}
	}
	return inspect.Verdict{Action: inspect.Accept, Settle: true}
}

// set changes the rule first, and then has the settled flows inspected again.
func (g *gate) set(closed bool) {
	g.closed.Store(closed)
	g.changes <- struct{}{}
}

// An inspector whose rules change while it runs. The daemon receives from the
// channel; here the example does.
func ExampleChanger() {
	g := &gate{changes: make(chan struct{}, 1)}
	fmt.Println(g.Inspect(dnsQuery()).Action)
	g.set(true)
	<-g.Changes()
	fmt.Println(g.Inspect(dnsQuery()).Action)
	// Output:
	// accept
	// drop
}

// perPod counts the packets of each pod, and forgets those that are gone.
type perPod struct{ counts sync.Map } // *inspect.Attachment to *atomic.Uint64

func (i *perPod) Attached(a *inspect.Attachment) { i.counts.Store(a, new(atomic.Uint64)) }
func (i *perPod) Detached(a *inspect.Attachment) { i.counts.Delete(a) }

func (i *perPod) Inspect(p *inspect.Packet) inspect.Verdict {
	n, _ := i.counts.Load(p.Attachment)
	n.(*atomic.Uint64).Add(1)
	return inspect.Verdict{Action: inspect.Accept}
}

// An inspector that keeps something for each pod. The daemon calls Attached before
// the first packet and Detached after the last one; here the example does.
func ExampleAttachmentObserver() {
	i, pod, query := &perPod{}, &inspect.Attachment{PodName: "web"}, dnsQuery()
	i.Attached(pod)
	query.Attachment = pod
	i.Inspect(query)
	n, _ := i.counts.Load(pod)
	fmt.Println(pod.PodName, n.(*atomic.Uint64).Load())
	i.Detached(pod)
	// Output: web 1
}

// capTTL replaces packets that would live longer than 16 hops.
type capTTL struct{}

func (capTTL) Needs() inspect.Needs { return inspect.Needs{Modifies: true} }

func (capTTL) Inspect(p *inspect.Packet) inspect.Verdict {
	const hops, at = 16, 8
	v := inspect.Verdict{Action: inspect.Accept}
	if _, ok := p.Flow(); ok && p.Payload[0]>>4 == 4 && p.Payload[at] > hops {
		v.Payload = slices.Clone(p.Payload) // never write to the packet itself
		v.Payload[at] = hops                // the daemon corrects the checksum
	}
	return v
}

// An inspector that replaces packets.
func ExampleVerdict_payload() {
	query := dnsQuery()
	v := capTTL{}.Inspect(query)
	fmt.Println("from", query.Payload[8], "to", v.Payload[8], "hops")
	// Output: from 64 to 16 hops
}

// The daemon does this with each replacement.
func ExampleFixChecksums() {
	packet := dnsQuery().Payload
	fmt.Println(inspect.FixChecksums(packet))
	fmt.Printf("%x\n", packet[10:12])
	// Output:
	// true
	// 6472
}
