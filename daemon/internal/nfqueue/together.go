// SPDX-License-Identifier: Apache-2.0

package nfqueue

import "github.com/nsqueue/nsqueue/daemon/inspect"

// together is a batch for an inspector that takes its packets all at once. Those that
// cannot be inspected keep their places, for answers are in the order of packets.
type together struct {
	packets [batchSize]inspect.Packet
	fates   [batchSize]fate
	count   int

	pointers [batchSize]*inspect.Packet // to those that are inspected
	verdicts [batchSize]inspect.Verdict
	inspect  int
}

// gatherIn has the packets of the next batch gathered, where the inspector takes
// batches and gets packets.
func (s *session) gatherIn(b *batch) {
	s.together = nil
	if s.batches == nil || s.ended {
		return
	}
	if b.together == nil {
		b.together = new(together)
	}
	s.together = b.together
	s.together.count, s.together.inspect = 0, 0
}

// gather adds a packet to the batch.
func (s *session) gather(body []byte) {
	t := s.together
	p := &t.packets[t.count]
	f := s.receive(body, p)
	if f == noPacket {
		return
	}
	t.fates[t.count] = f
	t.count++
	if f == toInspect {
		t.pointers[t.inspect] = p
		t.inspect++
	}
}

// inspectTogether has the batch inspected, where one was gathered, and answers it.
func (s *session) inspectTogether() {
	t := s.together
	if t == nil || t.count == 0 {
		return
	}
	verdicts := t.verdicts[:t.inspect]
	clear(verdicts)
	if t.inspect > 0 {
		s.inspectBatch(t.pointers[:t.inspect], verdicts)
	}
	for i := range t.count {
		p := &t.packets[i]
		if t.fates[i] != toInspect {
			s.answerUninspected(p, t.fates[i])
			continue
		}
		s.decide(p, &verdicts[0])
		verdicts = verdicts[1:]
	}
}

// inspectBatch asks the inspector. Where it panics it has said nothing of any packet:
// what it has written may not be its last word.
func (s *session) inspectBatch(packets []*inspect.Packet, verdicts []inspect.Verdict) {
	defer func() {
		if said := recover(); said != nil {
			s.verdicts.counters.panics++
			s.reader.panicked(said)
			clear(verdicts)
		}
	}()
	s.batches.InspectBatch(packets, verdicts)
}
