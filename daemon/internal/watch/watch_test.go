// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// udp is a packet from 10.0.0.1:40000 to 10.0.0.2:53.
func udp(length int) *inspect.Packet {
	b := make([]byte, max(length, 28))
	copy(b, []byte{
		0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
		0x9c, 0x40, 0, 53, 0, 8, 0, 0,
	})
	return &inspect.Packet{
		Direction: inspect.Out, Payload: b, Length: len(b), Mark: 1,
		Attachment: &inspect.Attachment{
			ContainerID: "c", Ifname: "eth0", PodNamespace: "default", PodName: "web",
		},
	}
}

// watching returns the events of a watch of the packets that observe offers.
func watching(t *testing.T, req api.WatchRequest, observe func(h *Hub)) []api.PacketEvent {
	t.Helper()
	return watchingHub(t, &Hub{}, req, observe)
}

func watchingHub(
	t *testing.T, h *Hub, req api.WatchRequest, observe func(h *Hub),
) []api.PacketEvent {
	t.Helper()
	if h.Observer() != nil {
		t.Error("there is no watcher, but packets are observed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var events []api.PacketEvent
	started := func() error { // no event is taken before it returns
		observe(h)
		for _, w := range *h.watchers.Load() {
			events = w.take(events)
			if n := w.bytes.Load(); n != 0 {
				t.Errorf("%d bytes are counted of nothing", n)
			}
		}
		cancel()
		return nil
	}
	if err := h.Watch(ctx, req, started, nil); err != nil {
		t.Error(err)
	}
	return events
}

func accept() inspect.Verdict { return inspect.Verdict{Action: inspect.Accept} }

// testRules asks for packets by what decided them.
func testRules(t *testing.T) {
	t.Helper()
	long := strings.Repeat("ü", 200)
	for _, test := range []struct {
		asked, reason, shown string
		want                 int
	}{
		{"", "", "", 1},
		{"", "a/b", "a/b", 1},
		{"a", "a/b", "a/b", 1},
		{"a/b", "a/b", "a/b", 1},
		{"a", "a", "a", 1},
		{"a", "ab/b", "", 0},
		{"a/b", "a/bc", "", 0},
		{"a/b", "a", "", 0},
		{"a", "", "", 0},
		{"", "x" + long, "x" + long[:254], 1},
		{long[:256], long, long[:256], 1},
	} {
		events := watching(t, api.WatchRequest{Rule: test.asked}, func(h *Hub) {
			h.Observe(udp(28), inspect.Verdict{Action: inspect.Drop, Reason: test.reason}, 0)
		})
		if len(events) != test.want || test.want == 1 && events[0].Rule != test.shown {
			t.Errorf("decided by %.10q, to one who asks for %.10q: %+v", test.reason, test.asked, events)
		}
	}
}

func TestFilter(t *testing.T) {
	for _, test := range []struct {
		req  api.WatchRequest
		want bool
	}{
		{api.WatchRequest{}, true},
		{api.WatchRequest{Namespace: "default", Pod: "web"}, true},
		{api.WatchRequest{Namespace: "kube-system"}, false},
		{api.WatchRequest{Pod: "we"}, false},
		{api.WatchRequest{Direction: "out"}, true},
		{api.WatchRequest{Direction: "in"}, false},
		{api.WatchRequest{Protocol: "udp"}, true},
		{api.WatchRequest{Protocol: "17"}, true},
		{api.WatchRequest{Protocol: "tcp"}, false},
		{api.WatchRequest{Protocol: "0"}, false},
		{api.WatchRequest{Port: 53}, true},
		{api.WatchRequest{Port: 40000}, true},
		{api.WatchRequest{Port: 54}, false},
		{api.WatchRequest{Verdict: "accept"}, true},
		{api.WatchRequest{Verdict: "drop"}, false},
		{api.WatchRequest{Protocol: "udp", Port: 53, Verdict: "drop"}, false},
		{api.WatchRequest{Address: "10.0.0.1"}, true},
		{api.WatchRequest{Address: "10.0.0.2"}, true},
		{api.WatchRequest{Address: "::ffff:10.0.0.2"}, true},
		{api.WatchRequest{Address: "10.0.0.3"}, false},
		{api.WatchRequest{Address: "10.9.9.9/8"}, true},
		{api.WatchRequest{Address: "10.0.0.0/31"}, true},
		{api.WatchRequest{Address: "10.0.0.4/30"}, false},
		{api.WatchRequest{Address: "::/0"}, false},
		{api.WatchRequest{Address: "10.0.0.1", Port: 54}, false},
		{api.WatchRequest{Address: "10.0.0.1", Protocol: "udp", Port: 53}, true},
	} {
		events := watching(t, test.req, func(h *Hub) { h.Observe(udp(28), accept(), 2) })
		if got := len(events) == 1; got != test.want {
			t.Errorf("%+v: %v, want %v", test.req, events, test.want)
		}
	}
	for verdict, want := range map[string]int{"reject": 1, "drop": 0} {
		events := watching(t, api.WatchRequest{Verdict: verdict}, func(h *Hub) {
			h.Observe(udp(28), inspect.Verdict{Action: inspect.Reject}, 0)
		})
		if len(events) != want || want == 1 && events[0].Verdict != "reject" {
			t.Errorf("a rejected packet, to one who asks for %s: %+v", verdict, events)
		}
	}
	testRules(t)
	broken := &inspect.Packet{Payload: []byte{1}, Attachment: udp(0).Attachment}
	events := watching(t, api.WatchRequest{}, func(h *Hub) { h.Observe(broken, accept(), 0) })
	if len(events) != 1 || events[0].Protocol != "unknown" {
		t.Errorf("a packet that cannot be read: %+v", events)
	}
	events = watching(t, api.WatchRequest{NoProbes: true}, func(h *Hub) {
		h.Observe(broken, accept(), 0)
	})
	if len(events) != 1 {
		t.Errorf("it was taken for the node's: %+v", events)
	}
	none := watching(t, api.WatchRequest{Address: "::/0"}, func(h *Hub) {
		h.Observe(broken, accept(), 0)
	})
	if len(none) != 0 {
		t.Errorf("it was taken for one with addresses: %+v", none)
	}
	none = watching(t, api.WatchRequest{Protocol: "0"}, func(h *Hub) { h.Observe(broken, accept(), 0) })
	if len(none) != 0 {
		t.Errorf("its protocol was taken for 0: %+v", none)
	}
}

// Every name that events have is one that a request may have.
func TestWordsAreValid(t *testing.T) {
	var requests []api.WatchRequest
	for proto := range 256 {
		requests = append(requests, api.WatchRequest{Protocol: inspect.ProtocolName(uint8(proto))})
	}
	for d := inspect.Unknown; d <= inspect.Forward; d++ {
		requests = append(requests, api.WatchRequest{Direction: d.String()})
	}
	for a := inspect.NoVerdict; a <= inspect.Queue; a++ {
		requests = append(requests, api.WatchRequest{Verdict: a.String()})
	}
	for _, r := range requests {
		if err := r.Validate(); err != nil {
			t.Error(err)
		}
	}
}

// Packets that are left out leave a gap in the numbers, and those that the watch
// is not about do not.
func TestSkippedAreNumbered(t *testing.T) {
	const more = 5
	req := api.WatchRequest{Port: 53}
	events := watching(t, req, func(h *Hub) {
		for range backlog + more {
			h.Observe(udp(28), accept(), 0)
		}
		other := udp(28)
		other.Payload[23], other.Payload[21] = 1, 1
		h.Observe(other, accept(), 0)
		w := (*h.watchers.Load())[0]
		<-w.events
		h.Observe(udp(28), accept(), 0)
	})
	last := events[len(events)-1].Packet
	if len(events) != backlog || events[0].Packet != 2 || last != backlog+more+1 {
		t.Errorf("%d events, from %d to %d", len(events), events[0].Packet, last)
	}
}

func TestPayload(t *testing.T) {
	events := watching(t, api.WatchRequest{Payload: 20}, func(h *Hub) {
		p := udp(1000)
		h.Observe(p, accept(), 0)
		clear(p.Payload) // it is the reader's
		h.Observe(&inspect.Packet{Attachment: p.Attachment}, accept(), 0)
	})
	if len(events) != 2 || !slices.Equal(events[0].Payload, udp(0).Payload[:20]) ||
		events[0].Length != 1000 || len(events[1].Payload) != 0 {
		t.Errorf("%+v", events)
	}
	const big = 60000
	events = watching(t, api.WatchRequest{Payload: api.MaxPayload}, func(h *Hub) {
		for range backlog {
			h.Observe(udp(big), accept(), 0)
		}
	})
	if len(events) != backlogBytes/big {
		t.Errorf("%d events with %d bytes each are kept, want %d bytes", len(events), big, backlogBytes)
	}
}

// A second's worth may come at once, also in the first second and after a quiet
// time; over a longer time it is the rate and no more.
func TestRate(t *testing.T) {
	var all rateLimit
	all.setRate(0, time.Time{})
	all.renew(time.Time{}.Add(time.Hour))
	if n := allowedNow(&all); n != 10_000 {
		t.Errorf("no rate allows %d", n)
	}
	for _, rate := range []uint32{1, 19, 500, 1000, math.MaxUint32} {
		now := time.Time{}
		var l rateLimit
		l.setRate(rate, now)
		burst := min(rate, 10_000)
		if n := allowedNow(&l); n != burst {
			t.Errorf("%d of %d at once", n, rate)
		}
		if rate > burst {
			continue
		}
		var allowed uint32
		for range 3 * 23 { // three seconds in uneven parts
			now = now.Add(time.Second / 23)
			l.renew(now)
			allowed += allowedNow(&l)
		}
		if allowed < 3*rate-1 || allowed > 3*rate {
			t.Errorf("%d in 3 seconds, want %d", allowed, 3*rate)
		}
		now = now.Add(time.Hour)
		l.renew(now)
		if n := allowedNow(&l); n != rate {
			t.Errorf("%d of %d after a quiet hour", n, rate)
		}
		l.renew(now)
		if n := allowedNow(&l); n != 0 {
			t.Errorf("%d more in no time", n)
		}
	}
}

func allowedNow(l *rateLimit) (n uint32) {
	for range 10_000 {
		if l.allows() {
			n++
		}
	}
	return n
}

// What is left out leaves a trace in the numbers; a quiet pod loses nothing.
func TestQuietPodIsWhole(t *testing.T) {
	events := watching(t, api.WatchRequest{Rate: 500}, func(h *Hub) {
		for range 399 {
			h.Observe(udp(28), accept(), 0)
		}
	})
	if len(events) != 399 {
		t.Errorf("%d of 399 packets", len(events))
	}
}

// Packets from and to the node are left out, and not counted; the others stay.
func TestNoProbes(t *testing.T) {
	for address, want := range map[string]int{
		"10.0.0.1": 0, "10.0.0.2": 0, "10.0.0.3": 1, "127.0.0.1": 1,
	} {
		h := Hub{nodeAddresses: func() (addresses, error) {
			return addresses{netip.MustParseAddr(address): true}, nil
		}}
		got := watchingHub(t, &h, api.WatchRequest{NoProbes: true}, func(h *Hub) {
			h.Observe(udp(28), accept(), 0)
		})
		if len(got) != want {
			t.Errorf("the node is %s: %d packets, want %d", address, len(got), want)
		}
	}
	broken := Hub{nodeAddresses: func() (addresses, error) { return nil, errors.New("broken") }}
	err := broken.Watch(t.Context(), api.WatchRequest{NoProbes: true}, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("addresses that are not known: %v", err)
	}
}

// The loopback addresses are the pod's as well as the node's.
func TestNodeAddresses(t *testing.T) {
	node, err := nodeAddresses()
	if err != nil {
		t.Fatal(err)
	}
	for a := range node {
		if a.IsLoopback() || a.Zone() != "" || a.Is4In6() {
			t.Errorf("address %s", a)
		}
	}
}

// Where many come, a watcher does not wait for the clock.
func TestCrowded(t *testing.T) {
	for name, fill := range map[string]func(h *Hub){
		"packets": func(h *Hub) {
			for range backlog / 2 {
				h.Observe(udp(28), accept(), 0)
			}
		},
		"content": func(h *Hub) {
			for range backlogBytes/2/60000 + 1 {
				h.Observe(udp(60000), accept(), 0)
			}
		},
	} {
		watching(t, api.WatchRequest{Payload: api.MaxPayload}, func(h *Hub) {
			w := (*h.watchers.Load())[0]
			h.Observe(udp(28), accept(), 0)
			if len(w.wake) != 0 {
				t.Errorf("%s: one packet is a crowd", name)
			}
			fill(h)
			if len(w.wake) != 1 {
				t.Errorf("%s: %d are no crowd", name, len(w.events))
			}
		})
	}
}

// A watch goes on when its rate is renewed.
func TestRateIsRenewed(t *testing.T) {
	var h Hub
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := 0
	first := func() error { h.Observe(udp(28), accept(), 0); h.Observe(udp(28), accept(), 0); return nil }
	err := h.Watch(ctx, api.WatchRequest{Rate: 1}, first, func(e []api.PacketEvent) error {
		if seen += len(e); seen == 2 {
			cancel()
			return nil
		}
		go func() { // a reader that is busy
			for ctx.Err() == nil {
				h.Observe(udp(28), accept(), 0)
			}
		}()
		return nil
	})
	if err != nil || seen != 2 {
		t.Errorf("%d packets, %v", seen, err)
	}
}

// A watcher costs a packet that it does not ask for no memory.
func TestFilterAllocatesNothing(t *testing.T) {
	for _, req := range []api.WatchRequest{{Protocol: "tcp"}, {Rule: "a/c"}} {
		watching(t, req, func(h *Hub) {
			p, v := udp(28), inspect.Verdict{Action: inspect.Accept, Reason: "a/b"}
			if n := testing.AllocsPerRun(100, func() { h.Observe(p, v, 0) }); n != 0 {
				t.Errorf("%+v: %v allocations", req, n)
			}
		})
	}
}

func BenchmarkObserve(b *testing.B) {
	for name, req := range map[string]api.WatchRequest{
		"other": {Protocol: "tcp"}, "full": {}, "rate": {Rate: 1000},
		"rule": {Rule: "a"},
	} {
		b.Run(name, func(b *testing.B) {
			var h Hub
			w := &watcher{events: make(chan api.PacketEvent, 1)}
			if err := w.filter.init(req); err != nil {
				b.Fatal(err)
			}
			w.rate.setRate(req.Rate, time.Now())
			h.add(w)
			p := udp(28)
			b.ReportAllocs()
			for b.Loop() {
				h.Observe(p, accept(), 0)
			}
		})
	}
}
