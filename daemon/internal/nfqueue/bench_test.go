// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nfqueue_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// BenchmarkQueue is the way of 64 datagrams from a socket through a queue to another
// socket, all in one goroutine.
func BenchmarkQueue(b *testing.B) {
	for name, i := range map[string]inspect.Inspector{
		"accept": inspect.AcceptAll{},
		"batch":  acceptBatch{},
	} {
		b.Run(name, func(b *testing.B) { benchmarkQueue(b, i) })
	}
}

// acceptBatch accepts batches.
type acceptBatch struct{ inspect.AcceptAll }

func (acceptBatch) InspectBatch(_ []*inspect.Packet, verdicts []inspect.Verdict) {
	for i := range verdicts {
		verdicts[i].Action = inspect.Accept
	}
}

func benchmarkQueue(b *testing.B, i inspect.Inspector) {
	const datagrams = 64
	f := newFixture(b)
	q := f.bind(80)
	b.Cleanup(func() { f.must(q.Close()) })
	o := options(nil)
	o.Inspector = i
	r, err := nfqueue.NewReader(q, false, o)
	f.must(err)
	turn := r.Turns(b)
	payload, buf := make([]byte, 1400), make([]byte, 2048)
	b.ReportAllocs()
	for b.Loop() {
		for range datagrams {
			_, err := f.from.Write(payload)
			f.must(err)
		}
		for answered := 0; answered < datagrams; {
			answered += turn()
		}
		b.StopTimer()
		for range datagrams {
			f.must(fdcontrol.Do(f.to, func(fd int) error {
				_, _, err := unix.Recvfrom(fd, buf, 0)
				return err
			}))
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*datagrams), "ns/packet")
}
