// SPDX-License-Identifier: Apache-2.0

package hooktest

import (
	"errors"
	"sync"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func testVerifyOnTour(t *testing.T, h hook.Hook) {
	armed, bare := newFixture(t, h), newFixture(t, h)
	armed.arm(all())
	nstest.Must(t, netns.Tour(func(visit func(*netns.NetNS) netns.Place) error {
		for range 2 {
			if err := armed.handle.Verify(visit(armed.ns), all()); err != nil {
				t.Errorf("an armed netns: %v", err)
			}
			err := bare.handle.Verify(visit(bare.ns), all())
			if !errors.Is(err, hook.ErrNotArmed) {
				t.Errorf("a netns that is not armed: %v, want %v", err, hook.ErrNotArmed)
			}
		}
		return nil
	}))
}

// A hook is safe for concurrent use, and handles are independent of each other.
func testConcurrent(t *testing.T, h hook.Hook) {
	var running sync.WaitGroup
	for range 4 {
		ns := open(t, nstest.New(t))
		running.Go(func() {
			if err := useOnce(h, ns); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
}

// useOnce calls every method of a handle.
func useOnce(h hook.Hook, ns *netns.NetNS) error {
	handle, err := h.Open(ns, nil)
	if err != nil {
		return err
	}
	err = arm(handle, all())
	for _, s := range []hook.Selector{several(), all()} {
		err = errors.Join(err, arm(handle, s), handle.Verify(ns, s))
	}
	_, countErr := handle.Counters()
	return errors.Join(err, countErr, handle.Disarm(), handle.Remove(), handle.Close())
}

func testClose(t *testing.T, h hook.Hook) {
	pod, peer := nstest.Pair(t)
	ns := open(t, pod)
	handle, err := h.Open(ns, nil)
	nstest.Must(t, err)
	mustArm(t, handle, all())
	nstest.Must(t, handle.Close())
	if armed := peer.Ping(t, pod.IPv4(), 1, silence) == 0; armed != h.Persistent() {
		t.Errorf("armed after the handle was closed: %t, want %t", armed, h.Persistent())
	}
	// A handle that armed nothing takes out what another one left.
	handle, err = h.Open(ns, nil)
	nstest.Must(t, err)
	closeHook(t, handle)
	if got := peer.Ping(t, pod.IPv4(), 1, reply); got != 1 {
		t.Error("no reply after the hook was removed")
	}
}
