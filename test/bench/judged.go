// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules"
	"github.com/nsqueue/nsqueue/test/bench/report"
)

// What is looked at without packets of a kernel.
const (
	decidedFlows   = 1 << 16 // as many as are remembered
	undecidedFlows = 1000
	halfHello      = 256 // bytes
	tcpHeader      = 20
	opens          = 1 << 1
	pushed         = 1 << 3
	acknowledged   = 1 << 4
)

// newJudge returns an inspector, and its only pod.
func newJudge(text string) (*rules.Inspector, *inspect.Attachment, error) {
	r, err := rules.Compile(rules.File{Name: "bench.yaml", Data: []byte(text)})
	if err != nil {
		return nil, nil, err
	}
	i := rules.New(rules.Options{Rules: r})
	a := &inspect.Attachment{PodNamespace: "bench", PodName: "pod"}
	i.Attached(a)
	return i, a, nil
}

// measureMemory has flows remembered, and looks at the heap.
func measureMemory(single *report.Row) error {
	decided, err := heapOf(decidedFlows, 0, func(a *inspect.Attachment, n int) []*inspect.Packet {
		return []*inspect.Packet{ipv4(a, unix.IPPROTO_UDP, n, udp(n, 4242, make([]byte, 8)))}
	})
	if err != nil {
		return err
	}
	undecided, err := heapOf(undecidedFlows, undecidedFlows, halfOpened)
	single.Add(report.DecidedBytes, decided)
	single.Add(report.UndecidedBytes, undecided-halfHello)
	return err
}

// halfOpened returns the packets of a connection up to the first half of its hello.
func halfOpened(a *inspect.Attachment, n int) []*inspect.Packet {
	hello := make([]byte, halfHello)
	copy(hello, []byte{22, 3, 1, 4, 0, 1, 0, 3, 252, 3, 3})
	server := tcp(443, n, 1, opens|acknowledged, nil)
	answer := ipv4(a, unix.IPPROTO_TCP, n, server)
	answer.Direction = inspect.In
	for i := range 4 {
		b := answer.Payload
		b[12+i], b[16+i] = b[16+i], b[12+i]
	}
	return []*inspect.Packet{
		ipv4(a, unix.IPPROTO_TCP, n, tcp(n, 443, 1, opens, nil)), answer,
		ipv4(a, unix.IPPROTO_TCP, n, tcp(n, 443, 2, pushed|acknowledged, hello)),
	}
}

// heapOf returns by how much a flow makes the heap grow.
func heapOf(flows, undecided int, packets func(*inspect.Attachment, int) []*inspect.Packet) (
	float64, error,
) {
	i, a, err := newJudge(rulesOf(10, true))
	if err != nil {
		return 0, err
	}
	before := heap()
	for n := range flows {
		for _, p := range packets(a, n) {
			i.Inspect(p)
		}
	}
	grown := heap() - before
	if s := i.Stats(); s.Flows != flows || s.Undecided != undecided {
		return 0, fmt.Errorf("%d flows, %d undecided, want %d and %d: %+v", s.Flows, s.Undecided,
			flows, undecided, s)
	}
	return float64(grown) / float64(flows), nil
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// measureDecisions compares queries that few rules are asked about with such that many
// are, which no index tells apart.
func measureDecisions(single *report.Row) error {
	const few, many = 1, 91
	first, err := perQuery(few)
	if err != nil {
		return err
	}
	second, err := perQuery(many)
	single.Add(report.DecisionTime, (second-first)/(many-few))
	return err
}

// perQuery returns how many nanoseconds a query takes.
func perQuery(number int) (float64, error) {
	text := strings.ReplaceAll(queryRules(number), "dns.name == ", "dns.name.endsWith(")
	i, a, err := newJudge(strings.ReplaceAll(text, ".example\"'", ".example\")'"))
	if err != nil {
		return 0, err
	}
	m := dnsmessage.Message{Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName(allowedName + "."), Type: dnsmessage.TypeA,
		Class: dnsmessage.ClassINET,
	}}}
	query, err := m.Pack()
	if err != nil {
		return 0, err
	}
	p := ipv4(a, unix.IPPROTO_UDP, 1, udp(1, 53, query))
	const turns = 100_000
	best := time.Hour
	for range 5 {
		took, _ := timed(func() error {
			for range turns {
				i.Inspect(p)
			}
			return nil
		})
		best = min(best, took)
	}
	return float64(best.Nanoseconds()) / turns, nil
}

// ipv4 returns a packet of the n-th client of a pod.
func ipv4(a *inspect.Attachment, protocol byte, n int, body []byte) *inspect.Packet {
	b := make([]byte, 20, 20+len(body))
	b[0], b[8], b[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(body)))
	copy(b[12:], []byte{10, 99, 0, 2, 203, 0, 113, byte(n >> 16)})
	b = append(b, body...)
	return &inspect.Packet{
		Direction: inspect.Out, Payload: b, Length: len(b), UID: -1, Attachment: a,
	}
}

func udp(n int, port uint16, payload []byte) []byte {
	b := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(b, uint16(n))
	binary.BigEndian.PutUint16(b[2:], port)
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(payload)))
	return append(b, payload...)
}

func tcp(from, to int, sequence uint32, flags byte, payload []byte) []byte {
	b := make([]byte, tcpHeader, tcpHeader+len(payload))
	binary.BigEndian.PutUint16(b, uint16(from))
	binary.BigEndian.PutUint16(b[2:], uint16(to))
	binary.BigEndian.PutUint32(b[4:], sequence)
	if flags&acknowledged != 0 {
		binary.BigEndian.PutUint32(b[8:], 2) // both begin with 1
	}
	b[12], b[13] = tcpHeader/4<<4, flags
	binary.BigEndian.PutUint16(b[14:], 65535)
	return append(b, payload...)
}
