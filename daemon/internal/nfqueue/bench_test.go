// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nfqueue_test

import (
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// BenchmarkQueue is the way of 64 datagrams from a socket through a queue to another
// socket, all in one goroutine.
func BenchmarkQueue(b *testing.B) {
	for name, i := range map[string]inspect.Inspector{
		"accept":             inspect.AcceptAll{},
		"batch":              acceptBatch{},
		"defer":              &releaser{},
		"defer, all at once": &releaser{all: true},
	} {
		b.Run(name, func(b *testing.B) { benchmarkQueue(b, i, 0) })
	}
	for _, behind := range []int{1, 100, 1000} {
		name := "accept, behind " + strconv.Itoa(behind)
		b.Run(name, func(b *testing.B) { benchmarkQueue(b, &releaser{most: behind}, behind) })
	}
}

// acceptBatch accepts batches.
type acceptBatch struct{ inspect.AcceptAll }

func (acceptBatch) InspectBatch(_ []*inspect.Packet, verdicts []inspect.Verdict) {
	for i := range verdicts {
		verdicts[i].Action = inspect.Accept
	}
}

// releaser defers each packet, and releases what it has when it has 64.
type releaser struct {
	all      bool // at once
	most     int  // how many it defers; 0 is no limit
	held     []inspect.Deferred
	verdicts []inspect.Verdict
}

func (*releaser) Needs() inspect.Needs { return inspect.Needs{Defers: true} }

func (r *releaser) Inspect(p *inspect.Packet) inspect.Verdict {
	if r.most > 0 && len(r.held) == r.most {
		return accepted()
	}
	d, ok := p.Defer(time.Minute)
	if !ok {
		panic("not deferred")
	}
	r.held, r.verdicts = append(r.held, d), append(r.verdicts, accepted())
	return deferred()
}

func (r *releaser) release() {
	if r.most > 0 {
		return
	}
	defer func() { r.held, r.verdicts = r.held[:0], r.verdicts[:0] }()
	if r.all {
		inspect.ReleaseAll(r.held, r.verdicts)
		return
	}
	for _, d := range r.held {
		d.Release(accepted())
	}
}

// benchmarkQueue begins when some datagrams have been answered, or deferred.
func benchmarkQueue(b *testing.B, i inspect.Inspector, before int) {
	benchmarkQueueOf(b, i, before, false)
}

// benchmarkQueueOf is benchmarkQueue where the kernel may tell whose the socket is.
func benchmarkQueueOf(b *testing.B, i inspect.Inspector, before int, socketUID bool) {
	const datagrams = 64
	f := newFixture(b)
	q := f.bind(80)
	release := func() {}
	if r, ok := i.(*releaser); ok {
		f.must(q.Close())
		q, release = f.bindDeferring(nfqueue.DefaultLength), r.release
	}
	b.Cleanup(func() { f.must(q.Close()) })
	f.must(q.SetSocketUID(socketUID))
	o := options(nil)
	o.Inspector = i
	r, err := nfqueue.NewReader(q, false, o)
	f.must(err)
	turn := r.Turns(b)
	payload, buf := make([]byte, 1400), make([]byte, 2048)
	for sent := 0; sent < before; sent += 20 { // more fill a socket's send buffer
		from := f.pod.DialUDP(b, f.to.LocalAddr().String())
		for range min(20, before-sent) {
			_, err := from.Write([]byte("deferred"))
			f.must(err)
		}
	}
	for answered := 0; answered < before; {
		answered += turn()
	}
	b.ReportAllocs()
	spent := time.Duration(0)
	for b.Loop() {
		began := processorTime(b)
		for range datagrams {
			_, err := f.from.Write(payload)
			f.must(err)
		}
		for answered := 0; answered < datagrams; {
			answered += turn()
		}
		release()
		spent += processorTime(b) - began
		b.StopTimer()
		for range datagrams {
			f.must(fdcontrol.Do(f.to, func(fd int) error {
				_, _, err := unix.Recvfrom(fd, buf, 0)
				return err
			}))
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N*datagrams), "cpu-ns/packet")
}

// processorTime is what the process has used of it, whatever else the machine does.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &now); err != nil {
		b.Fatal(err)
	}
	return time.Duration(now.Nano())
}
