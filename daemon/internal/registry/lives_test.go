// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// keeper is an inspector that keeps something for each pod, and finds out whether
// it is told of all of them in order.
type keeper struct {
	mu      sync.Mutex
	packets map[*inspect.Attachment]int // of those that are alive
	begun   int
	wrong   []string
	inspect func() // called for each packet; nil for nothing
}

func newKeeper() *keeper { return &keeper{packets: make(map[*inspect.Attachment]int)} }

func (k *keeper) Attached(a *inspect.Attachment) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, alive := k.packets[a]; alive {
		k.wrong = append(k.wrong, "attached twice: "+a.ContainerID)
	}
	k.packets[a] = 0
	k.begun++
}

func (k *keeper) Detached(a *inspect.Attachment) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, alive := k.packets[a]; !alive {
		k.wrong = append(k.wrong, "detached, but not attached: "+a.ContainerID)
	}
	delete(k.packets, a)
}

func (k *keeper) Inspect(p *inspect.Packet) inspect.Verdict {
	if k.inspect != nil {
		k.inspect()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, alive := k.packets[p.Attachment]; !alive {
		k.wrong = append(k.wrong, "a packet of none: "+p.Attachment.ContainerID)
	}
	k.packets[p.Attachment]++
	return inspect.Verdict{Action: inspect.Accept}
}

// want expects that many lives to have begun, of which these go on.
func (k *keeper) want(t *testing.T, begun int, alive ...string) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.begun != begun || len(k.packets) != len(alive) || k.wrong != nil {
		t.Errorf("%d lives, %d go on, %q; want %d, %v", k.begun, len(k.packets), k.wrong, begun, alive)
	}
	have := make(map[string]bool)
	for a := range k.packets {
		have[a.ContainerID] = true
	}
	for _, id := range alive {
		if !have[id] {
			t.Errorf("%s is not alive", id)
		}
	}
}

// The inspector is told of each netns once, by the attachment that its packets have.
func TestLives(t *testing.T) {
	k := newKeeper()
	d := start(t, k)
	d.queues = 3
	d.restart()
	pod, peer := nstest.Pair(t)
	one := d.attach("one", pod, api.Ignore)
	k.want(t, 1, "one")
	d.attach("one", pod, api.Ignore)
	two := d.attach("two", pod, api.Fail)
	nstest.Must(t, peerAnswers(t, peer, pod))
	k.want(t, 1, "one")
	nstest.Must(t, d.Detach(t.Context(), one.Key))
	nstest.Must(t, peerAnswers(t, peer, pod))
	k.want(t, 1, "one")
	nstest.Must(t, d.Detach(t.Context(), two.Key))
	nstest.Must(t, d.Detach(t.Context(), two.Key))
	k.want(t, 1)
	d.attach("two", pod, api.Ignore)
	d.attach("other", nstest.New(t), api.Ignore)
	k.want(t, 3, "two", "other")
	if n, err := d.DetachAll(t.Context()); n != 2 || err != nil {
		t.Errorf("%d detached, %v", n, err)
	}
	k.want(t, 3)
}

// A pod that cannot be attached leaves nothing behind.
func TestLivesOfFailedAttach(t *testing.T) {
	k := newKeeper()
	d := start(t, k)
	pod, _ := nstest.Pair(t)
	broken, whole := errors.New("broken"), d.hook
	for i, h := range []*brokenHook{{Hook: whole, open: broken}, {Hook: whole, arm: broken}} {
		d.hook = h
		d.restart()
		_, err := d.Attach(t.Context(), request("one", pod, api.Fail), nil)
		if !errors.Is(err, broken) {
			t.Errorf("attach: %v", err)
		}
		k.want(t, i+1)
	}
	d.hook = whole
	d.restart()
	foreign := holdQueue(t, pod, 80)
	if _, err := d.Attach(t.Context(), request("one", pod, api.Fail), nil); err == nil {
		t.Error("attached in spite of another reader")
	}
	nstest.Must(t, foreign.Close())
	k.want(t, 3)
	d.attach("one", pod, api.Fail)
	k.want(t, 4, "one")
}

// Another hook, or a repaired queue, is no other life.
func TestLivesWithReplacedHook(t *testing.T) {
	k := newKeeper()
	d := start(t, k)
	m := &module{Hook: d.hook}
	d.hook, d.fallback = m, d.hook
	d.restart()
	pod, peer := nstest.Pair(t)
	a := d.attach("one", pod, api.Fail)
	m.vanish(t)
	ctx, cancel := context.WithCancel(t.Context())
	var fallback sync.WaitGroup
	fallback.Go(func() { d.Fallback(ctx) })
	nstest.Eventually(t, reply, "the fallback is armed", func() bool {
		return d.Check(t.Context(), a.Key) == nil
	})
	cancel()
	fallback.Wait()
	nstest.Must(t, peerAnswers(t, peer, pod))
	k.want(t, 1, "one")
	nstest.Must(t, d.Detach(t.Context(), a.Key))
	k.want(t, 1)
}

// A daemon that ends tells its inspector, and the next one begins anew, also with
// queues that the first one did not have.
func TestLivesOverRestarts(t *testing.T) {
	for name, start := range map[string]func(*testing.T, inspect.Inspector) *daemon{
		"restored":    func(t *testing.T, i inspect.Inspector) *daemon { return start(t, i) },
		"handed over": startHeld,
	} {
		t.Run(name, func(t *testing.T) {
			k := newKeeper()
			d := start(t, k)
			pod, peer := nstest.Pair(t)
			a := d.attach("one", pod, api.Fail)
			for begun, queues := range []uint16{0, 3, 2} {
				nstest.Must(t, peerAnswers(t, peer, pod))
				k.want(t, begun+1, "one")
				d.queues = queues
				d.restart()
			}
			k.want(t, 4, "one")
			nstest.Must(t, d.Detach(t.Context(), a.Key))
			k.want(t, 4)
		})
	}
}

// What is inherited and then not wanted had a life.
func TestLivesOfUnwanted(t *testing.T) {
	k := newKeeper()
	d := startHeld(t, k)
	pod, _ := nstest.Pair(t)
	a := d.attach("one", pod, api.Fail)
	whole := d.hook
	d.hook = &brokenHook{Hook: whole, open: errors.New("broken")}
	d.restart()
	k.want(t, 2, "one")
	nstest.Must(t, d.Suspend()) // goes on reading for the next one
	k.want(t, 2)
	nstest.Must(t, errors.Join(d.Registry.Close(), d.store.Close()))
	d.hook = &brokenHook{Hook: whole, arm: errors.New("broken")}
	d.run()
	k.want(t, 3, "one")
	nstest.Must(t, d.Detach(t.Context(), a.Key))
	k.want(t, 3)
}

// No packet comes after the end, however many are under way.
func TestLivesUnderTraffic(t *testing.T) {
	k := newKeeper()
	d := start(t, k)
	pod, peer := nstest.Pair(t)
	nstest.Must(t, peerAnswers(t, peer, pod))
	to := pod.ListenUDP(t, netip.AddrPortFrom(pod.IPv4(), 0).String())
	from := peer.DialUDP(t, to.LocalAddr().String())
	ctx, cancel := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	sending.Go(func() {
		for ctx.Err() == nil {
			_, _ = fmt.Fprint(from, "x")
		}
	})
	const rounds = 20
	for range rounds {
		a := d.attach("one", pod, api.Ignore)
		nstest.Eventually(t, reply, "packets", func() bool { return d.counters("one").Packets > 0 })
		nstest.Must(t, d.Detach(t.Context(), a.Key))
	}
	cancel()
	sending.Wait()
	k.want(t, rounds)
}

// An inspector that returns late is told when it has.
func TestLivesOfLateInspector(t *testing.T) {
	hung, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	k := newKeeper()
	k.inspect = func() {
		first := false
		once.Do(func() { first = true })
		if first {
			close(hung)
			<-release
		}
	}
	d := start(t, k)
	d.budget = 50 * time.Millisecond
	d.restart()
	ctx, cancel := context.WithCancel(t.Context())
	var watchdog sync.WaitGroup
	watchdog.Go(func() { d.Watchdog(ctx) })
	pod, peer := nstest.Pair(t)
	a := d.attach("one", pod, api.Ignore)
	nstest.Must(t, peerAnswers(t, peer, pod))
	<-hung
	nstest.Must(t, d.Detach(t.Context(), a.Key))
	k.want(t, 1, "one")
	close(release)
	nstest.Eventually(t, reply, "the end of the life", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.packets) == 0
	})
	k.want(t, 1)
	cancel()
	watchdog.Wait()
}

// fragile panics whenever it is told of an attachment.
type fragile struct{ inspect.AcceptAll }

func (fragile) Attached(*inspect.Attachment) { panic("in attached") }
func (fragile) Detached(*inspect.Attachment) { panic("in detached") }

func TestLivesWithPanics(t *testing.T) {
	d := start(t, fragile{})
	log := d.capture()
	d.restart()
	pod, peer := nstest.Pair(t)
	a := d.attach("one", pod, api.Fail)
	nstest.Must(t, peerAnswers(t, peer, pod))
	nstest.Must(t, d.Detach(t.Context(), a.Key))
	d.wantNothing(pod)
	for _, want := range []string{"in attached", "in detached", "method=Detached", "containerID=one"} {
		if text := log.String(); !strings.Contains(text, want) {
			t.Errorf("the log lacks %q:\n%s", want, text)
		}
	}
}

// Inspectors that settle after some packets are told, too.
func TestLivesWhileSettling(t *testing.T) {
	k := newKeeper()
	d := start(t, k)
	d.settle = hook.Settle{Generation: 1, Timeout: time.Minute, Size: 1024}
	d.settleAfter = 2
	d.restart()
	pod, peer := nstest.Pair(t)
	a := d.attach("one", pod, api.Ignore)
	nstest.Must(t, peerAnswers(t, peer, pod))
	nstest.Must(t, d.Unsettle())
	k.want(t, 1, "one")
	nstest.Must(t, d.Detach(t.Context(), a.Key))
	k.want(t, 1)
}
