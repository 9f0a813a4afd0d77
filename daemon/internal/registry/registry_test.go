// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore/fdstoretest"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/hook/nft"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/programs"
	"github.com/nsqueue/nsqueue/daemon/internal/registry"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

const (
	reply   = time.Minute // only for what hangs
	silence = 200 * time.Millisecond
)

// daemon is a registry over a state directory that a test may restart.
type daemon struct {
	*registry.Registry
	t         testing.TB
	dir       string
	hook      hook.Hook
	fallback  hook.Hook
	inspector inspect.Inspector

	queues      uint16
	protocols   []uint8
	budget      time.Duration
	settle      hook.Settle
	settleAfter uint32
	length      uint32
	timings     registry.Timings
	supervisor  *fdstoretest.Supervisor // nil: no store has descriptors
	// hidden: the node is a container to the registry, which does not see all
	// processes.
	hidden bool
	// node is the PID namespace of the node, 0 where this process is in it.
	node uint64
	log  io.Writer
	// programs run for each pod.
	programs []*programs.Config
	kept     *programs.Programs // nil: none ever run

	store *state.Store
}

func start(t testing.TB, inspector inspect.Inspector) *daemon {
	t.Helper()
	d := prepare(t, inspector)
	d.run()
	return d
}

// prepare returns a daemon that does not run so far.
func prepare(t testing.TB, inspector inspect.Inspector) *daemon {
	t.Helper()
	h, err := nft.New()
	nstest.Must(t, err)
	d := &daemon{t: t, dir: t.TempDir(), hook: h, inspector: inspector, log: t.Output()}
	t.Cleanup(func() {
		_, err := d.DetachAll(context.WithoutCancel(t.Context()))
		nstest.Must(t, err)
		nstest.Must(t, d.Registry.Close())
		nstest.Must(t, d.store.Close())
	})
	return d
}

func (d *daemon) run() {
	d.t.Helper()
	store, err := state.Open(d.dir)
	nstest.Must(d.t, err)
	d.store = store
	fds, inherited := d.supervisor.Connect()
	d.Registry, err = registry.New(registry.Options{
		Inspector: d.inspector, Store: store, FailurePolicy: api.Ignore,
		Log: slog.New(slog.NewTextHandler(d.log, nil)),
		Queue: nfqueue.Config{
			Number: nfqueue.DefaultNumber, Length: cmp.Or(d.length, nfqueue.DefaultLength),
			CopyRange: nfqueue.MaxCopyRange, ReceiveBuffer: nfqueue.DefaultReceiveBuffer,
		},
		Directions: hook.AllDirections, Protocols: d.protocols, MarkMask: 0xff000000, BufferTotal: 1 << 30,
		Descriptors: fds,
		Queues:      d.queues, Budget: d.budget, Settle: d.settle, SettleAfter: d.settleAfter,
		Timings: d.timings, PIDNamespace: d.pidNamespace(),
		Programs: d.kept, ProgramsOf: func(*inspect.Attachment) []*programs.Config { return d.programs },
	})
	nstest.Must(d.t, err)
	past, err := d.Inherit(inherited, nil)
	nstest.Must(d.t, err)
	d.Restore(d.t.Context(), past, registry.Hooks{Hook: d.hook, Fallback: d.fallback})
	d.Sweep()
}

// pidNamespace is that of the node, which has all of its processes.
func (d *daemon) pidNamespace() uint64 {
	if d.hidden {
		return 0
	}
	if d.node != 0 {
		return d.node
	}
	var st unix.Stat_t
	nstest.Must(d.t, unix.Stat("/proc/self/ns/pid", &st))
	return st.Ino
}

// logged is a log that is read while it is written.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// capture returns what the daemon logs after it was restarted.
func (d *daemon) capture() *logged {
	var l logged
	d.log = io.MultiWriter(d.t.Output(), &l)
	return &l
}

// restart is an orderly exit and a new start.
func (d *daemon) restart() {
	d.t.Helper()
	nstest.Must(d.t, d.Suspend())
	nstest.Must(d.t, d.Registry.Close())
	nstest.Must(d.t, d.store.Close())
	d.run()
}

func request(id string, pod *nstest.NetNS, policy api.Policy) api.AttachRequest {
	req := api.AttachRequest{
		Key: api.Key{ContainerID: id, Ifname: "eth0"}, Network: "cbr0", Origin: api.OriginCNI,
		FailurePolicy: policy,
	}
	if pod != nil {
		req.NetnsPath = pod.Path()
	}
	return req
}

func (d *daemon) attach(id string, pod *nstest.NetNS, policy api.Policy) api.Attachment {
	d.t.Helper()
	a, err := d.Attach(d.t.Context(), request(id, pod, policy), nil)
	nstest.Must(d.t, err)
	nstest.Must(d.t, d.Check(d.t.Context(), a.Key))
	return a
}

func (d *daemon) counters(id string) api.Counters {
	d.t.Helper()
	list, err := d.List(d.t.Context())
	nstest.Must(d.t, err)
	for _, a := range list {
		if a.ContainerID == id {
			return a.Counters
		}
	}
	d.t.Fatalf("%s is not attached", id)
	return api.Counters{}
}

// wantNothing expects no attachment, no state file and an untouched netns.
func (d *daemon) wantNothing(pods ...*nstest.NetNS) {
	d.t.Helper()
	list, err := d.List(d.t.Context())
	nstest.Must(d.t, err)
	files, err := os.ReadDir(filepath.Join(d.dir, "attachments"))
	nstest.Must(d.t, err)
	if len(list) != 0 || len(files) != 0 {
		d.t.Errorf("left: attachments %v, state files %v", list, files)
	}
	for _, pod := range pods {
		if rules := pod.Run(d.t, "nft", "list", "ruleset"); rules != "" {
			d.t.Errorf("left in the netns: %s", rules)
		}
		if stats := stats(d.t, pod); len(stats) != 0 {
			d.t.Errorf("left bound: %v", stats)
		}
	}
}

func stats(t testing.TB, pod *nstest.NetNS) []nfqueue.Stat {
	t.Helper()
	ns, err := netns.Open(pod.Path())
	nstest.Must(t, err)
	defer ns.Close()
	s, err := nfqueue.Stats(ns)
	nstest.Must(t, err)
	return s
}

func TestAttachInspectsAndDetachLeavesNothing(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, peer := nstest.Pair(t)
	a := d.attach("one", pod, "")
	if a.State != api.Active || a.FailurePolicy != api.Ignore || a.Hook != "nft" {
		t.Errorf("attached as %+v", a)
	}
	if got := peer.Ping(t, pod.IPv4(), 5, reply); got != 5 {
		t.Errorf("%d of 5 replies", got)
	}
	if c := d.counters("one"); c.Packets != 10 || c.Accepted != 10 || c.Bytes == 0 {
		t.Errorf("counters %+v after 5 pings", c)
	}
	for range 2 {
		nstest.Must(t, d.Detach(t.Context(), a.Key))
	}
	d.wantNothing(pod)
	if got := peer.Ping(t, pod.IPv4(), 1, reply); got != 1 {
		t.Error("no reply after detaching")
	}
}

func TestAttachTwice(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, other := nstest.Pair(t)
	d.attach("one", pod, api.Ignore)
	d.attach("one", pod, api.Ignore) // a runtime that retries
	for _, req := range []api.AttachRequest{
		request("one", other, api.Ignore), request("one", pod, api.Fail),
	} {
		if _, err := d.Attach(t.Context(), req, nil); api.CodeOf(err) != api.CodeConflict {
			t.Errorf("%+v: %v, want a conflict", req, err)
		}
	}
	if s := stats(t, other); len(s) != 0 {
		t.Errorf("the refused netns has queues %v", s)
	}
	nstest.Must(t, d.Check(t.Context(), api.Key{ContainerID: "one", Ifname: "eth0"}))
}

func TestRefusedNetns(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	file := filepath.Join(t.TempDir(), "file")
	nstest.Must(t, os.WriteFile(file, nil, 0o600))
	for name, path := range map[string]string{
		"own":         "/proc/self/ns/net",
		"another":     "/proc/self/ns/mnt",
		"file":        file,
		"missing":     "/run/netns/missing",
		"not named":   "",
		"a directory": "/run",
	} {
		req := api.AttachRequest{
			Key: api.Key{ContainerID: "x", Ifname: "eth0"}, Origin: api.OriginManual, NetnsPath: path,
		}
		if _, err := d.Attach(t.Context(), req, nil); api.CodeOf(err) != api.CodeInvalidNetns {
			t.Errorf("%s netns: %v, want code %d", name, err, api.CodeInvalidNetns)
		}
	}
	d.wantNothing()
}

// Two interfaces of one container share the queue of its netns; the strictest
// policy rules.
func TestSharedNetns(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, peer := nstest.Pair(t)
	d.attach("one", pod, api.Ignore)
	second := request("one", pod, api.Fail)
	second.Ifname = "net1"
	_, err := d.Attach(t.Context(), second, nil)
	nstest.Must(t, err)
	if got := peer.Ping(t, pod.IPv4(), 2, reply); got != 2 {
		t.Errorf("%d of 2 replies", got)
	}
	if s := stats(t, pod); len(s) != 1 {
		t.Errorf("queues %v, want one", s)
	}
	for _, ifname := range []string{"net1", "eth0"} {
		key := api.Key{ContainerID: "one", Ifname: ifname}
		nstest.Must(t, d.Check(t.Context(), key))
		nstest.Must(t, d.Detach(t.Context(), key))
	}
	d.wantNothing(pod)
}

// holdQueue has another program read a queue in the pod's netns.
func holdQueue(t testing.TB, pod *nstest.NetNS, number uint16) *nfqueue.Queue {
	t.Helper()
	ns, err := netns.Open(pod.Path())
	nstest.Must(t, err)
	defer ns.Close()
	q, err := nfqueue.Open(ns, nfqueue.Config{
		Number: number, Length: 1, CopyRange: 1, ReceiveBuffer: 1 << 16,
	})
	nstest.Must(t, err)
	nstest.Must(t, q.Bind())
	return q
}

func TestForeignQueueHolder(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, _ := nstest.Pair(t)
	foreign := holdQueue(t, pod, nfqueue.DefaultNumber)
	_, err := d.Attach(t.Context(), request("one", pod, api.Fail), nil)
	if !errors.Is(err, nfqueue.ErrInUse) {
		t.Errorf("attach: %v, want %v", err, nfqueue.ErrInUse)
	}
	nstest.Must(t, foreign.Close())
	d.wantNothing(pod)
	d.attach("one", pod, api.Fail)
}

// brokenHook fails where it is told to.
type brokenHook struct {
	hook.Hook
	open, arm error
}

type brokenHandle struct {
	hook.Handle
	arm error
}

func (b *brokenHook) Open(ns *netns.NetNS, inherited *os.File) (hook.Handle, error) {
	if b.open != nil {
		return nil, b.open
	}
	h, err := b.Hook.Open(ns, inherited)
	return &brokenHandle{Handle: h, arm: b.arm}, err
}

func (b *brokenHandle) Arm(s hook.Selector) (warning, err error) {
	if b.arm != nil {
		return nil, b.arm
	}
	return b.Handle.Arm(s)
}

func TestFailedAttachLeavesNothing(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, peer := nstest.Pair(t)
	want := errors.New("broken")
	whole := d.hook
	for _, broken := range []*brokenHook{{Hook: whole, open: want}, {Hook: whole, arm: want}} {
		d.hook = broken
		d.restart()
		if _, err := d.Attach(t.Context(), request("one", pod, api.Fail), nil); !errors.Is(err, want) {
			t.Errorf("attach: %v, want %v", err, want)
		}
		d.wantNothing(pod)
		if got := peer.Ping(t, pod.IPv4(), 1, reply); got != 1 {
			t.Error("no reply after a failed attach")
		}
	}
}

func TestUnwritableState(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, _ := nstest.Pair(t)
	dir := filepath.Join(d.dir, "attachments")
	nstest.Must(t, os.Rename(dir, dir+".away"))
	if _, err := d.Attach(t.Context(), request("one", pod, api.Fail), nil); err == nil {
		t.Error("attached without a state file")
	}
	nstest.Must(t, os.Rename(dir+".away", dir))
	d.wantNothing(pod)
}

// A reader that never answers must not hold up detaching; what it holds gets
// the verdict of the policy.
func TestDetachAnswersWhatWaits(t *testing.T) {
	for policy, want := range map[api.Policy]int{api.Ignore: 1, api.Fail: 0} {
		t.Run(string(policy), func(t *testing.T) {
			held := make(chan struct{})
			release := make(chan struct{})
			var once sync.Once
			d := start(t, inspect.Func(func(*inspect.Packet) inspect.Verdict {
				once.Do(func() { close(held) })
				<-release
				return inspect.Verdict{Action: inspect.Accept}
			}))
			pod, peer := nstest.Pair(t)
			a := d.attach("one", pod, policy)
			to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String())
			from := pod.DialUDP(t, to.LocalAddr().String())
			_, err := from.Write([]byte("held"))
			nstest.Must(t, err)
			<-held
			done := make(chan error, 1)
			go func() { done <- d.Detach(context.WithoutCancel(t.Context()), a.Key) }()
			patience := silence
			if want > 0 {
				patience = reply
			}
			if got := receive(t, to, 1, patience); got != want {
				t.Errorf("%d packets arrived before the reader answered, want %d", got, want)
			}
			close(release)
			nstest.Must(t, <-done)
			d.wantNothing(pod)
		})
	}
}

func TestDetachUnderTrafficLosesNothing(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, peer := nstest.Pair(t)
	to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String(), nstest.ReceiveBuffer(4<<20))
	from := pod.DialUDP(t, to.LocalAddr().String())
	var sent, received atomic.Int64
	var stop atomic.Bool
	var sender, receiver sync.WaitGroup
	sender.Go(func() {
		for !stop.Load() {
			// Never more under way than the veth's backlog of 1,000 holds.
			if sent.Load()-received.Load() > 200 {
				runtime.Gosched()
				continue
			}
			if _, err := from.Write([]byte("numbered by the counters")); err != nil {
				t.Error(err)
				return
			}
			sent.Add(1)
		}
	})
	receiver.Go(func() {
		buf := make([]byte, 64)
		for {
			if _, err := to.Read(buf); err != nil { // the deadline, at the end
				return
			}
			received.Add(1)
		}
	})
	for range 20 {
		a := d.attach("one", pod, api.Fail)
		nstest.Must(t, d.Detach(t.Context(), a.Key))
	}
	stop.Store(true)
	sender.Wait()
	nstest.Poll(reply, func() bool { return received.Load() == sent.Load() })
	nstest.Must(t, to.SetReadDeadline(time.Now()))
	receiver.Wait()
	if sent.Load() != received.Load() || sent.Load() == 0 {
		t.Errorf("%d of %d datagrams arrived over 20 attachments and detachments",
			received.Load(), sent.Load())
	}
	t.Logf("%d datagrams", sent.Load())
}

func TestRestart(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	lenient, lenientPeer := nstest.Pair(t)
	strict, strictPeer := nstest.Pair(t)
	gone, err := nstest.Create("gone")
	nstest.Must(t, err)
	d.attach("lenient", lenient, api.Ignore)
	d.attach("strict", strict, api.Fail)
	d.attach("gone", gone, api.Ignore)

	nstest.Must(t, d.Suspend())
	nstest.Must(t, gone.Remove())
	if got := lenientPeer.Ping(t, lenient.IPv4(), 1, reply); got != 1 {
		t.Error("a pod under Ignore has no network while the daemon is away")
	}
	if got := strictPeer.Ping(t, strict.IPv4(), 1, silence); got != 0 {
		t.Error("a pod under Fail passes packets uninspected while the daemon is away")
	}
	nstest.Must(t, d.Registry.Close())
	nstest.Must(t, d.store.Close())
	d.run()
	for id, ends := range map[string][2]*nstest.NetNS{
		"lenient": {lenient, lenientPeer}, "strict": {strict, strictPeer},
	} {
		if got := ends[1].Ping(t, ends[0].IPv4(), 1, reply); got != 1 {
			t.Errorf("%s: no reply after the restart", id)
		}
		if c := d.counters(id); c.Packets != 2 {
			t.Errorf("%s: %d packets seen, want 2", id, c.Packets)
		}
	}
	if list, err := d.List(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("attachments %v, %v, want the two whose netns exists", list, err)
	}
	d.wantEvent(api.EventTakeOver, "taken over")
}

func TestCollect(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	a, b := nstest.Pair(t)
	c := nstest.New(t)
	kept := d.attach("kept", a, "")
	d.attach("stale", b, "")
	manual := request("manual", c, "")
	manual.Origin = api.OriginManual
	_, err := d.Attach(t.Context(), manual, nil)
	nstest.Must(t, err)
	result, err := d.Collect(t.Context(), api.CollectRequest{Network: "other"})
	nstest.Must(t, err)
	if result.Detached != 0 {
		t.Errorf("collecting another network detached %d", result.Detached)
	}
	result, err = d.Collect(t.Context(), api.CollectRequest{Network: "cbr0", Valid: []api.Key{kept.Key}})
	nstest.Must(t, err)
	list, err := d.List(t.Context())
	nstest.Must(t, err)
	if result.Detached != 1 || len(list) != 2 {
		t.Errorf("detached %d, left %v", result.Detached, list)
	}
}

// Concurrent calls about one key and one netns end in a consistent state.
func TestConcurrentCalls(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, peer := nstest.Pair(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 5 {
				req := request(fmt.Sprint("c", i%3), pod, api.Ignore)
				if _, err := d.Attach(t.Context(), req, nil); err != nil {
					t.Error(err)
				}
				if err := d.Detach(t.Context(), req.Key); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	d.wantNothing(pod)
	if got := peer.Ping(t, pod.IPv4(), 1, reply); got != 1 {
		t.Error("no reply afterwards")
	}
}

func TestCyclesLeaveNoGoroutine(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, _ := nstest.Pair(t)
	before := runtime.NumGoroutine()
	for range 100 {
		nstest.Must(t, d.Detach(t.Context(), d.attach("one", pod, api.Fail).Key))
	}
	nstest.Eventually(t, reply, "all goroutines have ended", func() bool {
		return runtime.NumGoroutine() <= before
	})
	d.wantNothing(pod)
}

func TestWatch(t *testing.T) {
	d := start(t, inspect.Func(func(p *inspect.Packet) inspect.Verdict {
		return inspect.Verdict{Action: inspect.Accept, Mark: 0xffffffff, MarkMask: 0xffffffff}
	}))
	pod, peer := nstest.Pair(t)
	a := d.attach("one", pod, "")
	ctx, cancel := context.WithCancel(t.Context())
	events := make(chan api.PacketEvent, 16)
	started := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- d.Watch(ctx, api.WatchRequest{}, func() error { close(started); return nil },
			func(e []api.PacketEvent) error { events <- e[0]; return nil })
	}()
	<-started
	peer.Ping(t, pod.IPv4(), 1, reply)
	e := <-events
	if e.Packet != 1 || e.Key != a.Key || e.Direction != "in" || e.Source != peer.IPv4() ||
		e.Destination != pod.IPv4() || e.Protocol != "icmp" || e.Verdict != "accept" ||
		e.OriginMark != 0 || e.SetMark != 0xff000000 {
		t.Errorf("event %+v", e)
	}
	cancel()
	nstest.Must(t, <-done)
}

func receive(t testing.TB, c interface {
	Read([]byte) (int, error)
	SetReadDeadline(time.Time) error
}, n int, patience time.Duration,
) int {
	t.Helper()
	buf := make([]byte, 2048)
	for i := range n {
		nstest.Must(t, c.SetReadDeadline(time.Now().Add(patience)))
		if _, err := c.Read(buf); err != nil {
			return i
		}
	}
	return n
}
