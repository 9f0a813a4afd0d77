// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/internal/view"
	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// growing is a daemon whose counters are larger in each list.
type growing struct {
	apitest.Daemon

	mu    sync.Mutex
	lists uint64
}

func (g *growing) List(context.Context) ([]api.Attachment, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := attachments()
	n := g.lists
	list[0].Counters = api.Counters{
		Packets: 1000 * n, Bytes: 1e6 * n, Dropped: 3 * n, Settled: n, InspectNanoseconds: 2.5e6 * n,
	}
	list[1].Counters = api.Counters{Packets: 2 * n, Bytes: 100 * n, Dropped: 20 * n}
	list[2].Counters.Packets = 7
	g.lists++
	return list, nil
}

// clock advances by a second at each look.
func clock() func() time.Time {
	var mu sync.Mutex
	now := testNow()
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(time.Second)
		return now
	}
}

// runStats runs stats with a clock that goes on.
func runStats(ctx context.Context, socket string, args ...string) outcome {
	var out, errs bytes.Buffer
	s := &IOStreams{
		out: &out, err: &errs, now: clock(), width: func() int { return 0 },
		getenv: func(string) string { return "" },
	}
	status := execute(ctx, s, append([]string{"stats", "--socket", socket}, args...))
	return outcome{status, out.String(), errs.String()}
}

func startGrowing(t *testing.T) string {
	t.Helper()
	g := &growing{}
	g.Described = described()
	socket := apitest.SocketPath(t)
	l, err := api.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, g)
	return socket
}

func TestStatsOnce(t *testing.T) {
	socket := startGrowing(t)
	const interval = "--interval=100ms"
	runStats(t.Context(), socket, "--once", interval).want(t, 0, `
2026-01-02T03:04:07Z  3 attachments, 3 shown
POD                PACKETS/S  BIT/S  DROP/S  SETTLE/S  US/PKT  WAITING  LOST
default/busybox1   1000       8M     3.0     1.0       2.5     3        9
0fd31c8e5a2b/net1  2.0        800    20.0    0         0       0        0
0fd4/eth0          0          0      0       0         0       0        0
`[1:], "")
	o := runStats(t.Context(), socket, "--once", interval, "--sort", "drops", "--limit", "1")
	if o.status != 0 || !strings.Contains(o.stdout, "3 attachments, 1 shown\n") ||
		!strings.Contains(o.stdout, "\n0fd31c8e5a2b/net1 ") {
		t.Errorf("%+v", o)
	}
	o = runStats(t.Context(), socket, "--once", interval, "-o", "json", "--sort", "pod")
	var got view.Loads
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil || o.status != 0 {
		t.Fatalf("%+v: %v", o, err)
	}
	want := view.Load{
		Key: attachments()[0].Key, Pod: attachments()[0].Pod, PacketsPerSecond: 1000,
		BitsPerSecond: 8e6, DroppedPerSecond: 3, SettledPerSecond: 1, InspectMicroseconds: 2.5, Waiting: 3, KernelDropped: 9,
	}
	if len(got.Attachments) != 3 || got.Seconds != 1 {
		t.Fatalf("%+v", got)
	}
	if diff := cmp.Diff(want, got.Attachments[2]); diff != "" {
		t.Errorf("load (-want +got):\n%s", diff)
	}
	for _, line := range []string{"--sort up", "--interval 1ms", "--limit -1"} {
		if o := runStats(t.Context(), socket, strings.Fields(line)...); o.status != 2 {
			t.Errorf("%s: %+v", line, o)
		}
	}
}

// A terminal is cleared between two tables, which fit it; a pipe gets nothing but
// text.
func TestStatsLive(t *testing.T) {
	socket := startGrowing(t)
	for _, width := range []int{0, 64} {
		ctx, cancel := context.WithCancel(t.Context())
		out := &cancelWriter{after: 12, cancel: cancel}
		s := &IOStreams{
			out: out, err: &bytes.Buffer{}, now: clock(), width: func() int { return width },
			height: func() int { return 0 }, getenv: func(string) string { return "" },
		}
		status := execute(ctx, s, []string{"stats", "--socket", socket, "--interval", "100ms"})
		got := out.String()
		if status != 0 || strings.Count(got, "PACKETS/S") < 2 {
			t.Errorf("status %d: %q", status, got)
		}
		if escapes := strings.Count(got, "\x1b"); (width == 0) != (escapes == 0) {
			t.Errorf("%d columns: %d escapes", width, escapes)
		}
		for line := range strings.Lines(strings.ReplaceAll(got, text.ClearScreen, "")) {
			if width > 0 && len([]rune(line)) > width+1 {
				t.Errorf("more than %d columns: %q", width, line)
			}
		}
	}
}

// Over a restart it waits, says so once, and counts anew.
func TestStatsDaemonAway(t *testing.T) {
	var d apitest.Daemon
	d.Attachments = attachments()[2:]
	d.Described = []api.Description{{Attachment: attachments()[2]}}
	socket, listen := startable(t, &d)
	stop := listen()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &cancelWriter{after: -1, cancel: func() {}}
	errs := onWrite{first: sync.OnceFunc(func() {
		listen()
		out.after, out.cancel = 3, cancel
	})}
	s := &IOStreams{
		out: out, err: &errs, now: clock(), width: func() int { return 0 },
		getenv: func(string) string { return "" },
	}
	stopped := sync.OnceFunc(stop)
	s.now = func() func() time.Time {
		tick := clock()
		return func() time.Time { // called after each list
			defer stopped()
			return tick()
		}
	}()
	status := execute(ctx, s, []string{"stats", "--socket", socket, "--interval", "100ms"})
	if got := errs.String(); status != 0 || got != "nsqueued does not answer; waiting for it\n" ||
		!strings.Contains(out.String(), "0fd4/eth0") {
		t.Errorf("status %d, %q, %q", status, got, out.String())
	}
}

func TestLoadsOfANewDaemon(t *testing.T) {
	a := attachments()[:1]
	from := &sample{testNow(), a}
	b := attachments()[:1]
	b[0].Counters = api.Counters{Packets: 10}
	got := loadsBetween(from, &sample{testNow().Add(2 * time.Second), b})
	if got.Attachments[0].PacketsPerSecond != 5 {
		t.Errorf("%+v, want 5 packets a second", got.Attachments[0])
	}
	if still := loadsBetween(from, from); still.Attachments[0].PacketsPerSecond != 0 {
		t.Errorf("%+v, want nothing in no time", still.Attachments[0])
	}
}
