// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore/fdstoretest"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// startHeld starts a daemon whose descriptors a supervisor holds.
func startHeld(t *testing.T, inspector inspect.Inspector) *daemon {
	t.Helper()
	d := start(t, inspector)
	d.supervisor = fdstoretest.New(t)
	d.restart()
	return d
}

// unbind takes a pod's queue away, by the copy of its socket that the supervisor has.
func (d *daemon) unbind(pod *nstest.NetNS) {
	d.t.Helper()
	cookie := cookieOf(d.t, pod)
	for _, held := range d.supervisor.Copies() {
		name, err := fdstore.ParseName(held.Name)
		nstest.Must(d.t, err)
		if name.Kind != fdstore.Queue || name.Cookie != cookie {
			nstest.Must(d.t, held.File.Close())
			continue
		}
		q, err := nfqueue.OpenInherited(held.File, nfqueue.Config{
			Number: nfqueue.DefaultNumber, Length: nfqueue.DefaultLength,
			CopyRange: nfqueue.MaxCopyRange, ReceiveBuffer: nfqueue.DefaultReceiveBuffer,
		})
		nstest.Must(d.t, err)
		nstest.Must(d.t, errors.Join(q.Unbind(), q.Close()))
	}
}

func cookieOf(t testing.TB, pod *nstest.NetNS) uint64 {
	t.Helper()
	ns, err := netns.Open(pod.Path())
	nstest.Must(t, err)
	defer ns.Close()
	return ns.ID().Cookie
}

func names(cookie uint64, strict bool, queues int) map[string]int {
	return map[string]int{
		fdstore.Name{Kind: fdstore.Queue, Cookie: cookie, Strict: strict}.String(): queues,
		fdstore.Name{Kind: fdstore.Table, Cookie: cookie, Strict: strict}.String(): 1,
	}
}

// What is kept follows the life of the attachment and its policy.
func TestDescriptorsAreKept(t *testing.T) {
	d := startHeld(t, inspect.AcceptAll{})
	d.queues = 3
	d.restart()
	pod, _ := nstest.Pair(t)
	cookie := cookieOf(t, pod)
	a := d.attach("one", pod, api.Ignore)
	d.supervisor.Await(4)
	if diff := cmp.Diff(names(cookie, false, 3), d.supervisor.Names()); diff != "" {
		t.Error(diff)
	}
	strict := d.attach("two", pod, api.Fail)
	nstest.Eventually(t, reply, "the stricter names", func() bool {
		return cmp.Equal(names(cookie, true, 3), d.supervisor.Names())
	})
	nstest.Must(t, d.Detach(t.Context(), strict.Key))
	nstest.Eventually(t, reply, "the names from before", func() bool {
		return cmp.Equal(names(cookie, false, 3), d.supervisor.Names())
	})
	nstest.Must(t, d.Detach(t.Context(), a.Key))
	d.supervisor.Await(0)
	d.wantNothing(pod)
}

// Under a steady flow, no packet is lost and none passes uninspected while one
// daemon follows another.
func TestHandOverLosesNothing(t *testing.T) {
	var seen atomic.Uint64
	d := startHeld(t, inspect.Func(func(*inspect.Packet) inspect.Verdict {
		seen.Add(1)
		return inspect.Verdict{Action: inspect.Accept}
	}))
	pod, peer := nstest.Pair(t)
	a := d.attach("one", pod, api.Fail)
	nstest.Must(t, peerAnswers(t, peer, pod))
	before := seen.Load()
	to := pod.ListenUDP(t, netip.AddrPortFrom(pod.IPv4(), 0).String(), nstest.ReceiveBuffer(1<<24))
	from := peer.DialUDP(t, to.LocalAddr().String())
	const total, restarts = 5000, 5
	var sending sync.WaitGroup
	sending.Go(func() {
		tick := time.NewTicker(100 * time.Microsecond)
		defer tick.Stop()
		for i := range total {
			<-tick.C
			if _, err := fmt.Fprint(from, i); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range restarts {
		d.restart()
	}
	sending.Wait()
	if got := receive(t, to, total, reply); got != total {
		t.Errorf("%d of %d datagrams arrived", got, total)
	}
	if got := seen.Load() - before; got != total {
		t.Errorf("%d of %d datagrams were inspected", got, total)
	}
	nstest.Must(t, d.Check(t.Context(), a.Key))
	nstest.Must(t, d.Detach(t.Context(), a.Key))
	d.supervisor.Await(0)
	d.wantNothing(pod)
}

// peerAnswers sends a packet that both sides need to know each other.
func peerAnswers(t *testing.T, peer, pod *nstest.NetNS) error {
	t.Helper()
	if got := peer.Ping(t, pod.IPv4(), 1, reply); got != 1 {
		return fmt.Errorf("%d of 1 replies", got)
	}
	return nil
}

// A configuration with fewer queues, or others, takes over what there was.
func TestHandOverToOtherQueues(t *testing.T) {
	d := startHeld(t, inspect.AcceptAll{})
	d.queues = 4
	d.restart()
	pod, peer := nstest.Pair(t)
	a := d.attach("one", pod, api.Fail)
	for _, queues := range []uint16{2, 6, 1} {
		d.queues = queues
		d.restart()
		nstest.Must(t, d.Check(t.Context(), a.Key))
		if got := len(stats(t, pod)); got != int(queues) {
			t.Errorf("%d queues are bound, want %d", got, queues)
		}
		d.supervisor.Await(int(queues) + 1)
		nstest.Must(t, peerAnswers(t, peer, pod))
	}
}

// A state file that is lost or damaged does not end the inspection of a pod.
func TestLostStateFile(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"lost":    os.Remove,
		"damaged": func(path string) error { return os.Truncate(path, 20) },
	} {
		t.Run(name, func(t *testing.T) {
			d := startHeld(t, inspect.AcceptAll{})
			pod, peer := nstest.Pair(t)
			d.attach("one", pod, api.Fail)
			nstest.Must(t, d.Suspend())
			nstest.Must(t, d.Registry.Close())
			nstest.Must(t, d.store.Close())
			nstest.Must(t, damage(filepath.Join(d.dir, "attachments", "one@eth0.json")))
			d.run()
			nstest.Must(t, peerAnswers(t, peer, pod))
			id := "recovered-" + strconv.FormatUint(cookieOf(t, pod), 10)
			if c := d.counters(id); c.Packets == 0 {
				t.Error("the pod's packets were not inspected")
			}
			d.wantEvent(api.EventFailure, "state file lost")
			// Whoever knows the pod's name takes it up again.
			d.attach("one", pod, api.Fail)
			nstest.Must(t, d.Detach(t.Context(), api.Key{ContainerID: id, Ifname: "eth0"}))
			nstest.Must(t, d.Detach(t.Context(), api.Key{ContainerID: "one", Ifname: "eth0"}))
			d.supervisor.Await(0)
		})
	}
}

func (d *daemon) wantEvent(kind api.EventKind, text string) {
	d.t.Helper()
	events, err := d.Events(d.t.Context())
	nstest.Must(d.t, err)
	for _, e := range events {
		if e.Kind == kind && strings.Contains(e.Message, text) {
			return
		}
	}
	d.t.Errorf("no event %s about %q in %v", kind, text, events)
}
