// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"errors"
	"os"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/test/nstest"
)

var errStubborn = errors.New("does not want to be disarmed")

// stubborn is a hook whose handles do what they should and say otherwise.
type stubborn struct{ hook.Hook }

type stubbornHandle struct{ hook.Handle }

func (s stubborn) Open(ns *netns.NetNS, inherited *os.File) (hook.Handle, error) {
	h, err := s.Hook.Open(ns, inherited)
	if err != nil {
		return nil, err
	}
	return stubbornHandle{h}, nil
}

func (h stubbornHandle) Disarm() error { return errors.Join(h.Handle.Disarm(), errStubborn) }

func (h stubbornHandle) DisarmEnded() error {
	return errors.Join(h.Handle.DisarmEnded(), errStubborn)
}

// What cannot be collected keeps nothing else from it, and each is reported.
func TestCollectGoesOn(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	d.hook = stubborn{d.hook}
	d.restart()
	a, b := nstest.Pair(t)
	c := nstest.New(t)
	d.attach("a", a, api.Ignore)
	kept := d.attach("b", b, api.Ignore)
	d.attach("c", c, api.Ignore)
	unknown := api.Key{ContainerID: "nobody", Ifname: "eth0"}
	result, err := d.Collect(t.Context(), api.CollectRequest{
		Network: "cbr0", Valid: []api.Key{unknown, kept.Key},
	})
	var joined interface{ Unwrap() []error }
	if !errors.Is(err, errStubborn) || !errors.As(err, &joined) || len(joined.Unwrap()) != 2 {
		t.Errorf("collect: %v, want two errors", err)
	}
	if result.Detached != 0 {
		t.Errorf("%d detached without an error", result.Detached)
	}
	list, err := d.List(t.Context())
	nstest.Must(t, err)
	if len(list) != 1 || list[0].Key != kept.Key {
		t.Errorf("left: %v", list)
	}
	nstest.Must(t, d.Check(t.Context(), kept.Key))
	if err := d.Detach(t.Context(), kept.Key); !errors.Is(err, errStubborn) {
		t.Errorf("detach: %v", err)
	}
	d.wantNothing(a, b, c)
}
