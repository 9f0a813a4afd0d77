// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// module is a hook that can vanish as an unloaded kernel module does: its
// handles then have nothing in the kernel any more.
type module struct {
	hook.Hook
	gone atomic.Bool

	mu      sync.Mutex
	handles []hook.Handle
}

type moduleHandle struct {
	hook.Handle
	module *module
}

func (m *module) Kind() hook.Kind { return hook.Module }

func (m *module) Present() bool { return !m.gone.Load() }

func (m *module) Open(ns *netns.NetNS, inherited *os.File) (hook.Handle, error) {
	h, err := m.Hook.Open(ns, inherited)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.handles = append(m.handles, h)
	return &moduleHandle{Handle: h, module: m}, nil
}

func (m *module) vanish(t *testing.T) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.handles {
		nstest.Must(t, errors.Join(h.Remove(), h.Close()))
	}
	m.gone.Store(true)
}

func (h *moduleHandle) Verify(at netns.Place, s hook.Selector) error {
	if !h.module.Present() {
		return fmt.Errorf("%w: module is gone", hook.ErrNotArmed)
	}
	return h.Handle.Verify(at, s)
}

func (h *moduleHandle) Close() error {
	if !h.module.Present() {
		return nil
	}
	return h.Handle.Close()
}

func TestVanishedHookIsReplaced(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	nft := d.hook
	m := &module{Hook: nft}
	d.hook, d.fallback = m, nft
	d.restart()
	pod, peer := nstest.Pair(t)
	a := d.attach("one", pod, api.Fail)
	if a.Hook != string(hook.Module) {
		t.Fatalf("attached with hook %s", a.Hook)
	}
	m.vanish(t)
	if err := d.Check(t.Context(), a.Key); api.CodeOf(err) != api.CodeNotInspected {
		t.Errorf("check while nothing is armed: %v, want code %d", err, api.CodeNotInspected)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var fallback sync.WaitGroup
	fallback.Go(func() { d.Fallback(ctx) })
	nstest.Eventually(t, reply, "the fallback is armed", func() bool {
		return d.Check(t.Context(), a.Key) == nil
	})
	cancel()
	fallback.Wait()
	list, err := d.List(t.Context())
	nstest.Must(t, err)
	if len(list) != 1 || list[0].Hook != string(hook.NFTables) {
		t.Errorf("listed %+v, want hook %s", list, hook.NFTables)
	}
	if got := peer.Ping(t, pod.IPv4(), 2, reply); got != 2 || d.counters("one").Packets != 4 {
		t.Errorf("%d of 2 replies, %d packets seen", got, d.counters("one").Packets)
	}
	other, _ := nstest.Pair(t)
	if a := d.attach("two", other, api.Fail); a.Hook != string(hook.NFTables) {
		t.Errorf("a later pod was attached with hook %s", a.Hook)
	}
}
