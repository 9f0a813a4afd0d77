// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nft_test

import (
	"io"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/hook/nft"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/settle"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// cases are compared with each other in one run; alternate them by -count.
func cases() []benchmark {
	settling := all()
	settling.Settle = hook.Settle{Generation: 1, Timeout: time.Minute, Size: 1024}
	return []benchmark{
		{"no table", nil},
		{"every packet queued", all()},
		{"settled with the second packet", settling},
	}
}

type benchmark struct {
	name     string
	selector *hook.Selector
}

func all() *hook.Selector { return &hook.Selector{Queue: 80, Directions: hook.AllDirections} }

// BenchmarkTCP moves data from the pod to its peer by one connection.
func BenchmarkTCP(b *testing.B) {
	for _, c := range cases() {
		b.Run(c.name, func(b *testing.B) {
			pod, peer := nstest.Pair(b)
			queued := serve(b, pod, c.selector)
			l := peer.ListenTCP(b, netip.AddrPortFrom(peer.IPv4(), 0).String())
			from := pod.DialTCP(b, l.Addr().String())
			to, err := l.Accept()
			nstest.Must(b, err)
			done := make(chan error, 1)
			go func() {
				_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, to, make([]byte, 1<<18))
				done <- err
			}()
			chunk := make([]byte, 1<<20)
			b.SetBytes(int64(len(chunk)))
			before := cpuTime(b)
			for b.Loop() {
				_, err := from.Write(chunk)
				nstest.Must(b, err)
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
			nstest.Must(b, from.Close())
			nstest.Must(b, <-done)
			nstest.Must(b, to.Close())
			b.ReportMetric(float64(queued())/float64(b.N), "queued/op")
		})
	}
}

// cpuTime is what both ends and the reader used, kernel included. Where the
// machine has more to do, it tells more than the throughput.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	nstest.Must(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFlood sends datagrams of 64 bytes, 20,000 at a time.
func BenchmarkFlood(b *testing.B) {
	const flood = 20000
	for _, c := range cases() {
		b.Run(c.name, func(b *testing.B) {
			pod, peer := nstest.Pair(b)
			queued := serve(b, pod, c.selector)
			to := peer.ListenUDP(b, netip.AddrPortFrom(peer.IPv4(), 0).String(),
				nstest.ReceiveBuffer(256<<20))
			from := pod.DialUDP(b, to.LocalAddr().String())
			packet, received := make([]byte, 64), 0
			for b.Loop() {
				for range flood {
					_, err := from.Write(packet)
					nstest.Must(b, err)
				}
				b.StopTimer()
				for range flood {
					nstest.Must(b, to.SetReadDeadline(time.Now().Add(time.Second)))
					if _, err := to.Read(packet); err != nil {
						break
					}
					received++
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(queued())/float64(b.N), "queued/op")
			b.ReportMetric(float64(received)/float64(b.N), "delivered/op")
		})
	}
}

// serve arms the pod and accepts its packets until the benchmark ends. It
// returns what tells how many packets were queued.
func serve(b *testing.B, pod *nstest.NetNS, s *hook.Selector) (queued func() uint64) {
	b.Helper()
	if s == nil {
		return func() uint64 { return 0 }
	}
	h, err := nft.New()
	nstest.Must(b, err)
	ns, err := netns.Open(pod.Path())
	nstest.Must(b, err)
	b.Cleanup(func() { nstest.Must(b, ns.Close()) })
	table, err := h.Open(ns, nil)
	nstest.Must(b, err)
	b.Cleanup(func() { closeHook(b, table) })
	q, err := nfqueue.Open(ns, nfqueue.Config{
		Number: s.Queue, Length: nfqueue.DefaultLength,
		CopyRange: nfqueue.MaxCopyRange, ReceiveBuffer: 64 << 20, FailOpen: true,
	})
	nstest.Must(b, err)
	nstest.Must(b, q.Bind())
	r, err := nfqueue.NewReader(q, false, nfqueue.ReaderOptions{
		Inspector: settle.NewAfter(2, inspect.AcceptAll{}), Attachment: &inspect.Attachment{},
		Observer: func() nfqueue.Observer { return nil },
	})
	nstest.Must(b, err)
	r.SetSettle(s.Settle.Request(false), s.Settle.Request(true))
	p, err := nfqueue.NewPoller(nfqueue.PollerOptions{CopyRange: nfqueue.MaxCopyRange})
	nstest.Must(b, err)
	nstest.Must(b, p.Add(r))
	done := make(chan error, 1)
	go func() { done <- p.Run() }()
	b.Cleanup(func() {
		nstest.Must(b, q.Close())
		nstest.Must(b, p.Stop())
		nstest.Must(b, <-done)
		nstest.Must(b, p.Close())
	})
	mustArm(b, table, *s)
	return func() uint64 {
		c, err := table.Counters()
		nstest.Must(b, err)
		return c.Queued
	}
}

// BenchmarkArm arms a netns for the first time.
func BenchmarkArm(b *testing.B) {
	for _, c := range cases()[1:] {
		b.Run(c.name, func(b *testing.B) {
			h, err := nft.New()
			nstest.Must(b, err)
			ns, err := netns.New()
			nstest.Must(b, err)
			defer ns.Close()
			for b.Loop() {
				table, err := h.Open(ns, nil)
				nstest.Must(b, err)
				mustArm(b, table, *c.selector)
				b.StopTimer()
				closeHook(b, table)
				b.StartTimer()
			}
		})
	}
}

// BenchmarkTakeOver goes on with an inherited socket and wants what is there.
func BenchmarkTakeOver(b *testing.B) {
	for _, c := range cases()[1:] {
		b.Run(c.name, func(b *testing.B) {
			h, err := nft.New()
			nstest.Must(b, err)
			ns, err := netns.New()
			nstest.Must(b, err)
			defer ns.Close()
			table, err := h.Open(ns, nil)
			nstest.Must(b, err)
			mustArm(b, table, *c.selector)
			for b.Loop() {
				b.StopTimer()
				kept, err := fdcontrol.Duplicate(table.File(), "kept")
				nstest.Must(b, err)
				nstest.Must(b, table.Close())
				b.StartTimer()
				table, err = h.Open(ns, kept)
				nstest.Must(b, err)
				mustArm(b, table, *c.selector)
			}
			closeHook(b, table)
		})
	}
}
