// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"hash/fnv"
	"net/netip"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// Inspector sends packets on to the queues of a program that runs in each pod's netns.
type Inspector struct{ config *Config }

// NewInspector returns what sends packets to a program.
func NewInspector(c *Config) *Inspector { return &Inspector{c} }

// InspectBatch sends packets on. Those of one flow go to one queue.
func (i *Inspector) InspectBatch(packets []*inspect.Packet, verdicts []inspect.Verdict) {
	s := &i.config.Spec
	for n := range verdicts {
		v := &verdicts[n]
		v.Action, v.Queue, v.Settle = inspect.Queue, s.Queue, false
		if s.Queues > 1 {
			v.Queue += uint16(flowNumber(packets[n]) % uint32(s.Queues))
		}
	}
}

// flowNumber returns the same number for all packets of a flow, both ways.
func flowNumber(p *inspect.Packet) uint32 {
	f, ok := p.Flow()
	if !ok {
		return 0
	}
	return endNumber(f.Source, f.SourcePort) ^ endNumber(f.Destination, f.DestinationPort)
}

func endNumber(addr netip.Addr, port uint16) uint32 {
	h := fnv.New32a()
	b := addr.As16()
	_, _ = h.Write(b[:])
	_, _ = h.Write([]byte{byte(port >> 8), byte(port)})
	return h.Sum32()
}

// Attached does nothing: keepers start programs.
func (*Inspector) Attached(*inspect.Attachment, bool) {}

// Detached does nothing.
func (*Inspector) Detached(*inspect.Attachment) {}

// headers has room for those by which flows are told from each other. Programs get whole
// packets from the kernel.
const headers = 256

// Needs are no more than headers.
func (*Inspector) Needs(*inspect.Attachment) inspect.Needs {
	return inspect.Needs{CopyRange: headers}
}

// Reader says what reads an attachment.
func (i *Inspector) Reader(*inspect.Attachment) api.Reader {
	return api.Reader{Kind: api.ReaderProgram, Name: i.config.Name}
}
