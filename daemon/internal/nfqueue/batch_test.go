// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nfqueue_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// batchFunc is an inspector that takes batches only.
type batchFunc func(packets []*inspect.Packet, verdicts []inspect.Verdict)

func (batchFunc) Inspect(*inspect.Packet) inspect.Verdict { panic("one packet alone") }

func (f batchFunc) InspectBatch(packets []*inspect.Packet, verdicts []inspect.Verdict) {
	f(packets, verdicts)
}

// Packets that wait come in one batch, also those that had come before the reader
// was there, and each gets its verdict. Those of a panic get the policy's.
func TestBatchOfQueue(t *testing.T) {
	for _, tt := range []struct {
		name     string
		panics   bool
		failOpen bool
		arrive   int
	}{
		{"verdicts", false, false, 10},
		{"panic, fail open", true, true, 20},
		{"panic, fail closed", true, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			q := f.bind(80)
			f.send(20)
			largest := 0
			o := options(nil)
			o.Inspector = batchFunc(func(packets []*inspect.Packet, verdicts []inspect.Verdict) {
				largest = max(largest, len(packets))
				for i, p := range packets {
					verdicts[i].Action = inspect.Accept
					if p.ID%2 == 0 {
						verdicts[i].Action = inspect.Drop
					}
				}
				if tt.panics {
					panic("inspector")
				}
			})
			r := f.runWith(q, tt.failOpen, o)
			nstest.Eventually(t, reply, "all are inspected", func() bool {
				return r.Counters.Accepted.Load()+r.Counters.Dropped.Load() == 20
			})
			if got := f.arrive(tt.arrive, reply); got != tt.arrive {
				t.Errorf("%d datagrams arrived, want %d", got, tt.arrive)
			}
			c := &r.Counters
			if c.Accepted.Load() != uint64(tt.arrive) || (c.Panics.Load() > 0) != tt.panics {
				t.Errorf("%d accepted, %d panics", c.Accepted.Load(), c.Panics.Load())
			}
			if largest < 2 {
				t.Errorf("the largest batch had %d packets", largest)
			}
		})
	}
}

// A batch that takes too long gets the policy's verdict as a whole, and what the
// inspector says of it later does not count.
func TestSupersedeBatch(t *testing.T) {
	f := newFixture(t)
	q := f.bind(80)
	hangs, release := make(chan struct{}), make(chan struct{})
	hung := false
	o := options(nil)
	o.Inspector = batchFunc(func(packets []*inspect.Packet, verdicts []inspect.Verdict) {
		if !hung {
			hung = true
			close(hangs)
			<-release
		}
		for i := range packets {
			verdicts[i].Action = inspect.Drop
		}
	})
	r, err := nfqueue.NewReader(q, true, o)
	f.must(err)
	f.send(3)
	p, err := nfqueue.NewPoller(nfqueue.PollerOptions{CopyRange: nfqueue.MaxCopyRange})
	f.must(err)
	f.must(p.Add(r))
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- p.Run() }()
	<-hangs
	superseded, err := p.Supersede(time.Nanosecond)
	if superseded != r || err != nil {
		t.Fatalf("not superseded: %v", err)
	}
	go func() { second <- p.Run() }()
	if got := f.arrive(3, reply); got != 3 {
		t.Errorf("%d of 3 held datagrams arrived", got)
	}
	close(release)
	if err := <-first; !errors.Is(err, nfqueue.ErrSuperseded) {
		t.Errorf("the superseded run: %v", err)
	}
	f.send(2)
	nstest.Eventually(t, reply, "the successor drops", func() bool {
		return r.Counters.Dropped.Load() == 2
	})
	f.must(q.Close())
	f.must(p.Stop())
	f.must(<-second)
	f.must(p.Close())
}
