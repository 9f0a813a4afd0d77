// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"os"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/registry"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// ways is a hook that notes in which way its handles were disarmed.
type ways struct {
	hook.Hook
	lossless, short int
}

type waysHandle struct {
	hook.Handle
	ways *ways
}

func (w *ways) Open(ns *netns.NetNS, inherited *os.File) (hook.Handle, error) {
	h, err := w.Hook.Open(ns, inherited)
	if err != nil {
		return nil, err
	}
	return waysHandle{h, w}, nil
}

func (h waysHandle) Disarm() error {
	h.ways.lossless++
	return h.Handle.Disarm()
}

func (h waysHandle) DisarmEnded() error {
	h.ways.short++
	return h.Handle.DisarmEnded()
}

// Only where a pod has ended, and nothing lives in its netns, does detaching
// not wait for the packets under way.
func TestDetachOfEndedPod(t *testing.T) {
	for name, test := range map[string]struct {
		ended, process  bool
		lossless, short int
	}{
		"an operator detaches":             {lossless: 1},
		"the pod has ended":                {ended: true, short: 1},
		"the pod has ended, a process not": {ended: true, process: true, lossless: 1},
	} {
		t.Run(name, func(t *testing.T) {
			d := start(t, inspect.AcceptAll{})
			w := &ways{Hook: d.hook}
			d.hook = w
			d.restart()
			pod, _ := nstest.Pair(t)
			a := d.attach("one", pod, api.Fail)
			if test.process {
				process := pod.Command("sleep", "60")
				nstest.Must(t, process.Start())
				t.Cleanup(func() {
					_ = process.Process.Kill()
					_ = process.Wait()
				})
			}
			req := api.DetachRequest{Key: a.Key, PodEnded: test.ended}
			nstest.Must(t, d.DetachOlder(t.Context(), req, registry.Always))
			d.wantNothing(pod)
			if w.lossless != test.lossless || w.short != test.short {
				t.Errorf("disarmed %d times without loss, %d times the short way; want %d, %d",
					w.lossless, w.short, test.lossless, test.short)
			}
		})
	}
}

// A collection ends pods that have ended.
func TestCollectOfEndedPod(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	w := &ways{Hook: d.hook}
	d.hook = w
	d.restart()
	pod, _ := nstest.Pair(t)
	d.attach("one", pod, api.Ignore)
	result, err := d.Collect(t.Context(), api.CollectRequest{Network: "cbr0"})
	nstest.Must(t, err)
	if result.Detached != 1 || w.short != 1 || w.lossless != 0 {
		t.Errorf("%d detached, %d of them the short way, %d without loss; want 1, 1, 0",
			result.Detached, w.short, w.lossless)
	}
}
