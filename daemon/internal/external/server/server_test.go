// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/external/proto"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func allDeferred(verdicts []inspect.Verdict) bool {
	return !slices.ContainsFunc(verdicts, func(v inspect.Verdict) bool {
		return v.Action != inspect.Defer
	})
}

// Packets go to the inspector with all that it is to know, and get its verdicts, in
// messages and in memory.
func TestVerdicts(t *testing.T) {
	for name, features := range map[string]uint32{"messages": 0, "memory": proto.FeatureMemory} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, Config{Memory: true})
			c := b.connect(proto.Hello{Features: features, Name: "test"})
			if c.welcome.MarkMask != 0xff000000 || (c.memory != nil) != (features != 0) {
				t.Errorf("welcome %+v, memory %v", c.welcome, c.memory != nil)
			}
			if v := b.inspect(b.packets(100, 3)); !allDeferred(v) {
				t.Fatalf("verdicts %+v", v)
			}
			got, data := c.batch()
			for i, h := range got.Headers {
				payload := data[h.Offset:][:h.Captured]
				if h.ID != 100+uint32(i) || binary.BigEndian.Uint32(payload[28:]) != h.ID ||
					h.Protocol != 17 || h.Direction != uint8(inspect.Out) || h.Mark != 7 ||
					h.Flow == 0 || h.Length != 32 || h.Flags != 0 {
					t.Errorf("packet %d: %+v, %x", i, h, payload)
				}
			}
			c.send(proto.AppendVerdicts(nil, got.Sequence, []proto.Verdict{
				{ID: 100, Action: proto.ActionSettleAccept, Mark: 0x02000000, MarkMask: 0x02000000},
				{ID: 102, Action: proto.ActionReject},
			}))
			c.send(proto.AppendVerdicts(nil, got.Sequence, []proto.Verdict{
				{ID: 101, Action: proto.ActionDrop},
			}))
			want := []inspect.Verdict{
				{
					Action: inspect.Accept, Settle: true, Mark: 0x03000000, MarkMask: 0x03000000,
					Reason: "inspector/ids",
				},
				{Action: inspect.Reject, Mark: 0x01000000, MarkMask: 0x01000000, Reason: "inspector/ids"},
				{Action: inspect.Drop, Mark: 0x01000000, MarkMask: 0x01000000, Reason: "inspector/ids"},
			}
			for i, v := range b.kernel.await(t, 3) {
				if v.Action != want[i].Action || v.Settle != want[i].Settle ||
					v.Mark != want[i].Mark || v.MarkMask != want[i].MarkMask ||
					v.Reason != want[i].Reason {
					t.Errorf("verdict %d: %+v, want %+v", i, v, want[i])
				}
			}
			if s := b.State(); !s.Connected || s.Client != "test" || s.PID != os.Getpid() ||
				s.Counters.Packets != 3 || s.Attachments != 1 {
				t.Errorf("state %+v", s)
			}
		})
	}
}

// Of an inspector that is away, packets get what OnFailure says at once.
func TestAway(t *testing.T) {
	for failure, want := range map[Failure]inspect.Action{
		ByPolicy: inspect.NoVerdict, Accept: inspect.Accept, Drop: inspect.Drop,
		AsBefore: inspect.Accept,
	} {
		b := newBed(t, Config{OnFailure: failure})
		for _, v := range b.inspect(b.packets(1, 2)) {
			if v.Action != want {
				t.Errorf("failure %d: %+v, want action %v", failure, v, want)
			}
		}
		if n := b.State().Counters.Away; n != 2 {
			t.Errorf("%d away, want 2", n)
		}
	}
}

// What an inspector had when it went away gets what OnFailure says, each packet once, and
// the next inspector goes on.
func TestLost(t *testing.T) {
	b := newBed(t, Config{OnFailure: Drop})
	for round := range 10 {
		c := b.connect(proto.Hello{})
		b.inspect(b.packets(uint32(round)*10, 5))
		got, _ := c.batch()
		c.send(proto.AppendVerdicts(nil, got.Sequence,
			[]proto.Verdict{{ID: got.Headers[0].ID, Action: proto.ActionAccept}}))
		b.kernel.await(t, round*5+1)
		_ = c.conn.Close()
		verdicts := b.kernel.await(t, round*5+5)[round*5:]
		for i, v := range verdicts {
			if (v.Action == inspect.Drop) != (i > 0) {
				t.Errorf("verdict %d: %+v", i, v)
			}
		}
		nstest.Eventually(t, hangs, "the server comes to it", func() bool { return b.link.Load() == nil })
	}
	if n := b.State().Counters; n.Lost != 40 || n.Answered != 10 || n.Connections != 10 {
		t.Errorf("counters %+v", n)
	}
}

// An inspector that stops gets no more packets when its time is over, until it has caught
// up. Its late verdicts change nothing.
func TestStalled(t *testing.T) {
	b := newBed(t, Config{OnFailure: Accept, Budget: 20 * time.Millisecond})
	c := b.connect(proto.Hello{})
	b.inspect(b.packets(1, 3))
	got, _ := c.batch()
	for i, v := range b.kernel.await(t, 3) {
		if v.Action != inspect.Accept || v.Settle {
			t.Errorf("verdict %d: %+v", i, v)
		}
	}
	nstest.Eventually(t, hangs, "the server comes to it", func() bool { return b.State().Counters.Late == 3 && b.State().Stalled })
	if v := b.inspect(b.packets(4, 1)); v[0].Action != inspect.Accept {
		t.Errorf("while it is stalled: %+v", v[0])
	}
	c.answer(&got, proto.Verdict{Action: proto.ActionDrop})
	nstest.Eventually(t, hangs, "the server comes to it", func() bool { return !b.State().Stalled })
	if n := len(b.kernel.await(t, 3)); n != 3 {
		t.Errorf("%d verdicts, want 3", n)
	}
	b.inspect(b.packets(5, 1))
	if next, _ := c.batch(); next.Headers[0].ID != 5 {
		t.Errorf("the next packet is %d", next.Headers[0].ID)
	}
}

// While the inspector has two batches, packets share the next one until it is full.
func TestSharedBatch(t *testing.T) {
	b := newBed(t, Config{})
	c := b.connect(proto.Hello{Batch: 4})
	for i := range uint32(9) {
		b.inspect(b.packets(i, 1))
	}
	var first proto.Batch
	for i, want := range [][]uint32{{0}, {1}, {2, 3, 4, 5}} { // and three that wait
		got, _ := c.batch()
		if ids := idsOf(&got); !slices.Equal(ids, want) {
			t.Fatalf("batch %d has %v, want %v", i, ids, want)
		}
		if i == 0 {
			first = got
			continue
		}
		c.answer(&got, proto.Verdict{Action: proto.ActionAccept})
	}
	got, _ := c.batch() // though the first one has no answer
	if ids := idsOf(&got); !slices.Equal(ids, []uint32{6, 7, 8}) {
		t.Errorf("the last batch has %v", ids)
	}
	c.answer(&first, proto.Verdict{Action: proto.ActionAccept})
	c.answer(&got, proto.Verdict{Action: proto.ActionAccept})
	b.kernel.await(t, 9)
}

func idsOf(b *proto.Batch) (ids []uint32) {
	for _, h := range b.Headers {
		ids = append(ids, h.ID)
	}
	return ids
}

// No more than four batches of a queue are on their way. Others wait, and the queue is
// paused, until there is room.
func TestBackpressure(t *testing.T) {
	b := newBed(t, Config{})
	c := b.connect(proto.Hello{InFlight: 2, Batch: 8})
	for i := range uint32(10) {
		b.inspect(b.packets(i*8, 8))
	}
	first, _ := c.batch()
	second, _ := c.batch()
	_ = c.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := c.conn.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a third batch is on its way: %v", err)
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(hangs))
	if b.kernel.mu.Lock(); !b.kernel.paused {
		t.Error("the queue is not paused")
	}
	b.kernel.mu.Unlock()
	c.answer(&first, proto.Verdict{Action: proto.ActionAccept})
	c.answer(&second, proto.Verdict{Action: proto.ActionAccept})
	for seen := 16; seen < 80; {
		got, _ := c.batch()
		for i, h := range got.Headers {
			if h.ID != uint32(seen+i) {
				t.Errorf("packet %d is %d", seen+i, h.ID)
			}
		}
		seen += len(got.Headers)
		c.answer(&got, proto.Verdict{Action: proto.ActionAccept})
	}
	b.kernel.await(t, 80)
	if b.kernel.mu.Lock(); b.kernel.paused {
		t.Error("the queue is paused still")
	}
	b.kernel.mu.Unlock()
}

// Who breaks the protocol is closed and counted, and the packets get what OnFailure says.
func TestGarbage(t *testing.T) {
	hello := (&proto.Hello{Version: 1}).Append(nil)
	verdict := func(sequence uint32, ids ...uint32) []byte {
		var list []proto.Verdict
		for _, id := range ids {
			list = append(list, proto.Verdict{ID: id, Action: proto.ActionAccept})
		}
		return proto.AppendVerdicts(nil, sequence, list)
	}
	huge := verdict(1, 1)
	huge[12], huge[13] = 0xff, 0xff
	for name, messages := range map[string][][]byte{
		"no HELLO":              {verdict(1, 1)},
		"half a HELLO":          {hello[:20]},
		"nothing much":          {{0}},
		"second HELLO":          {hello, hello},
		"too long":              {hello, make([]byte, 5000)},
		"foreign packet":        {hello, verdict(1, 99)},
		"foreign batch":         {hello, verdict(7, 1)},
		"twice":                 {hello, verdict(1, 1, 1)},
		"twice, in two":         {hello, verdict(1, 1), verdict(1, 1)},
		"after all have theirs": {hello, verdict(1, 1, 2), verdict(1, 1)},
		"huge count":            {hello, huge},
		"half a message":        {hello, verdict(1, 1)[:20]},
		"unknown type":          {hello, proto.AppendDetach(nil, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, Config{OnFailure: Drop})
			c := b.dial()
			c.send(messages[0])
			if len(messages) > 1 {
				c.receiveWelcome()
				nstest.Eventually(t, hangs, "the server comes to it", func() bool { return b.link.Load() != nil })
				b.inspect(b.packets(1, 2))
				c.batch()
				for _, m := range messages[1:] {
					c.send(m)
				}
				b.kernel.await(t, 2)
			}
			for {
				if _, err := c.conn.Read(make([]byte, proto.MaxMessage)); err != nil {
					if !errors.Is(err, io.EOF) {
						t.Logf("closed with %v", err)
					}
					if errors.Is(err, os.ErrDeadlineExceeded) {
						t.Error("not closed")
					}
					break
				}
			}
			nstest.Eventually(t, hangs, "the server comes to it", func() bool { return b.State().Counters.Malformed == 1 })
		})
	}
}

// A version that is to come is answered by this one.
func TestNewerVersion(t *testing.T) {
	b := newBed(t, Config{})
	c := b.dial()
	c.send((&proto.Hello{Version: 9}).Append(nil))
	if c.receiveWelcome(); c.welcome.Version != proto.Version {
		t.Errorf("version %d", c.welcome.Version)
	}
}

// Who comes second waits for the first to go, and then gets the packets.
func TestStandby(t *testing.T) {
	b := newBed(t, Config{})
	first := b.connect(proto.Hello{Name: "first"})
	second := b.dial()
	second.send((&proto.Hello{Version: 1, Name: "second"}).Append(nil))
	b.inspect(b.packets(1, 1))
	got, _ := first.batch()
	first.answer(&got, proto.Verdict{Action: proto.ActionAccept})
	b.kernel.await(t, 1)
	_ = first.conn.Close()
	second.receiveWelcome()
	nstest.Eventually(t, hangs, "the server comes to it", func() bool {
		return b.State().Client == "second"
	})
	b.inspect(b.packets(2, 1))
	got, _ = second.batch()
	second.answer(&got, proto.Verdict{Action: proto.ActionDrop})
	if v := b.kernel.await(t, 2)[1]; v.Action != inspect.Drop {
		t.Errorf("verdict of the second: %+v", v)
	}
}

// One that stands by takes the place of an inspector that has stalled.
func TestStandbyForStalled(t *testing.T) {
	b := newBed(t, Config{OnFailure: Drop, Budget: 20 * time.Millisecond})
	first := b.connect(proto.Hello{Name: "first"})
	second := b.dial()
	second.send((&proto.Hello{Version: 1, Name: "second"}).Append(nil))
	b.inspect(b.packets(1, 1))
	first.batch()
	second.receiveWelcome()
	if reason, _, err := proto.ParseBye(first.receive()); err != nil ||
		reason != proto.ReasonReplaced {
		t.Errorf("the first is told %v, %v", reason, err)
	}
}

// Verdicts come while the daemon looks at what a new inspector needs, for however long.
func TestChangedWaits(t *testing.T) {
	changed, goOn := make(chan []*inspect.Attachment), make(chan struct{})
	b := newBed(t, Config{}, func(s *Server) {
		s.Changed = func(ctx context.Context, list []*inspect.Attachment) {
			changed <- list
			select {
			case <-goOn:
			case <-ctx.Done():
			}
		}
	})
	c := b.connect(proto.Hello{})
	if list := <-changed; len(list) != 1 || list[0] != b.pod {
		t.Errorf("changed %v", list)
	}
	b.inspect(b.packets(1, 1))
	got, _ := c.batch()
	c.answer(&got, proto.Verdict{Action: proto.ActionAccept})
	b.kernel.await(t, 1)
	close(goOn)
}

// An inspector that says BYE loses no packet: it answers what it has.
func TestBye(t *testing.T) {
	b := newBed(t, Config{OnFailure: Drop})
	c := b.connect(proto.Hello{})
	b.inspect(b.packets(1, 2))
	got, _ := c.batch()
	c.send(proto.AppendBye(nil, proto.ReasonDone, "upgrade"))
	nstest.Eventually(t, hangs, "the server comes to it", func() bool { return b.link.Load() == nil })
	c.answer(&got, proto.Verdict{Action: proto.ActionAccept})
	_ = c.conn.Close()
	for i, v := range b.kernel.await(t, 2) {
		if v.Action != inspect.Accept {
			t.Errorf("verdict %d: %+v", i, v)
		}
	}
}

// Attachments come and go.
func TestAttachments(t *testing.T) {
	b := newBed(t, Config{})
	c := b.connect(proto.Hello{})
	other := &inspect.Attachment{PodNamespace: "n", PodName: "other"}
	b.Attached(other, false)
	number, text, err := proto.ParseAttach(c.receive())
	if err != nil || !strings.Contains(string(text), `"name":"other"`) {
		t.Errorf("ATTACH %s, %v", text, err)
	}
	b.Detached(other)
	if n, err := proto.ParseDetach(c.receive()); err != nil || n != number {
		t.Errorf("DETACH of %d, %v, want %d", n, err, number)
	}
	// A packet of a pod that nobody has told of.
	late := b.packets(1, 1)
	late[0].Attachment = other
	b.inspect(late)
	again, _, err := proto.ParseAttach(c.receive())
	if err != nil || again == number {
		t.Errorf("ATTACH of %d, %v", again, err)
	}
	if got, _ := c.batch(); got.Attachment != again {
		t.Errorf("packets of %d, want %d", got.Attachment, again)
	}
}

// What does not fit into the socket waits, in order.
func TestFullSocket(t *testing.T) {
	b := newBed(t, Config{})
	c := b.connect(proto.Hello{Batch: 1}) // so that each batch is full
	kernels := make([]*kernel, 200)
	for i := range kernels { // as many queues, each with four batches
		kernels[i] = newKernel()
		for n := range uint32(4) {
			packets := b.packets(n, 1)
			packets[0].Deferrer = kernels[i]
			packets[0].Payload = append(packets[0].Payload, make([]byte, 20000)...)
			b.inspect(packets)
		}
	}
	for range 4 * len(kernels) {
		got, _ := c.batch()
		c.answer(&got, proto.Verdict{Action: proto.ActionAccept})
	}
	for _, k := range kernels {
		k.await(t, 4)
	}
}

// The daemon's end waits for what the inspector has, and says BYE.
func TestEnd(t *testing.T) {
	b := newBed(t, Config{OnFailure: Drop})
	c := b.connect(proto.Hello{})
	b.inspect(b.packets(1, 2))
	got, _ := c.batch()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.stop()
	}()
	nstest.Eventually(t, hangs, "the server comes to it", func() bool { return b.link.Load() == nil })
	c.answer(&got, proto.Verdict{Action: proto.ActionAccept})
	if reason, _, err := proto.ParseBye(c.receive()); err != nil || reason != proto.ReasonDone {
		t.Errorf("BYE %v, %v", reason, err)
	}
	<-ended
	for i, v := range b.kernel.await(t, 2) {
		if v.Action != inspect.Accept {
			t.Errorf("verdict %d: %+v", i, v)
		}
	}
}

// An end that comes right behind HELLO leaves the connection as it is: it becomes a link, and
// may have packets.
func TestEndBehindHello(t *testing.T) {
	near, far := socketPair(t)
	_, err := far.Write((&proto.Hello{Version: 1, Name: "x"}).Append(nil))
	nstest.Must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := receiveHello(ctx, near); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	context.AfterFunc(ctx, func() { close(ended) })
	cancel()
	<-ended
	const tries = 100 // what ctx's end does, it does by the scheduler's leave
	for range tries {
		_, err := far.Write([]byte("verdicts"))
		nstest.Must(t, err)
		if n, err := near.Read(make([]byte, 64)); err != nil || n != len("verdicts") {
			t.Fatalf("%d bytes, %v", n, err)
		}
		runtime.Gosched()
	}
}

// A socket that nobody serves is replaced, another file is not.
func TestListen(t *testing.T) {
	b := newBed(t, Config{})
	b.connect(proto.Hello{})
	other := New(b.config)
	if _, err := other.listen(); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second server listens: %v", err)
	}
	path := b.config.Socket + "2"
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	other.config.Socket = path
	again, err := other.listen()
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := other.listen(); err == nil {
		t.Error("a file that is no socket is replaced")
	}
}
