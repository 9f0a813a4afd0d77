// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// scripted is a registry that does what it is told while it attaches.
type scripted struct {
	origin    api.Origin
	err       error
	meanwhile func()
	detached  []api.Key
	list      []api.Attachment
}

func (s *scripted) AttachCalled(
	_ context.Context, req api.AttachRequest, _ *os.File, _ time.Duration,
) (api.Attachment, error) {
	if s.meanwhile != nil {
		s.meanwhile()
	}
	return api.Attachment{Key: req.Key, Origin: s.origin}, s.err
}

func (s *scripted) Detach(ctx context.Context, key api.Key) error {
	s.detached = append(s.detached, key)
	return ctx.Err()
}

func (s *scripted) List(context.Context) ([]api.Attachment, error) { return s.list, nil }

func testAdopter(t *testing.T, s *scripted) *adopter {
	c := DefaultConfig()
	c.Adopt.NetnsDirs, c.Adopt.CacheDir = nil, t.TempDir()
	return newAdopter(&c, s, slog.New(slog.DiscardHandler))
}

// What is deleted while it is being adopted must not stay attached, and what
// was made again after that must.
func TestDeletedMeanwhile(t *testing.T) {
	key := api.Key{ContainerID: "a", Ifname: "eth0"}
	other := api.Key{ContainerID: "b", Ifname: "eth0"}
	for name, test := range map[string]struct {
		meanwhile func(*adopter)
		want      api.AdoptOutcome
	}{
		"nothing":                {func(*adopter) {}, api.Adopted},
		"deleted":                {func(a *adopter) { a.detaching(key) }, api.AdoptSkipped},
		"another deleted":        {func(a *adopter) { a.detaching(other) }, api.Adopted},
		"all deleted":            {func(a *adopter) { a.detachingAll() }, api.AdoptSkipped},
		"deleted and made again": {func(a *adopter) { a.detaching(key); a.attaching(key) }, api.Adopted},
		"all, and made again":    {func(a *adopter) { a.detachingAll(); a.attaching(key) }, api.Adopted},
		"all, another again":     {func(a *adopter) { a.detachingAll(); a.attaching(other) }, api.AdoptSkipped},
		"made again, then all":   {func(a *adopter) { a.attaching(key); a.detachingAll() }, api.AdoptSkipped},
		"made again, deleted":    {func(a *adopter) { a.attaching(key); a.detaching(key) }, api.AdoptSkipped},
	} {
		s := &scripted{origin: api.OriginAdopted}
		a := testAdopter(t, s)
		a.watchDeletions(true)
		s.meanwhile = func() { test.meanwhile(a) }
		// The caller's end does not keep the undoing from it.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		got, err := a.take(ctx, api.AttachRequest{Key: key}, nil)
		undone := slices.Contains(s.detached, key)
		if got != test.want || undone != (got == api.AdoptSkipped) || undone != errors.Is(err, errDeleted) {
			t.Errorf("%s: %s, %v, undone: %t; want %s", name, got, err, undone, test.want)
		}
	}
}

// Deletions before a scan are none of its business.
func TestDeletedBefore(t *testing.T) {
	s := &scripted{origin: api.OriginAdopted}
	a := testAdopter(t, s)
	key := api.Key{ContainerID: "a", Ifname: "eth0"}
	a.detaching(key)
	a.detachingAll()
	a.watchDeletions(true)
	if got, err := a.take(t.Context(), api.AttachRequest{Key: key}, nil); got != api.Adopted || err != nil {
		t.Errorf("%s, %v", got, err)
	}
}

func TestAnotherCallWasFaster(t *testing.T) {
	odd := errors.New("odd")
	for name, test := range map[string]struct {
		registry scripted
		want     api.AdoptOutcome
	}{
		"same":     {scripted{origin: api.OriginCNI}, api.AlreadyAttached},
		"conflict": {scripted{err: api.Errorf(api.CodeConflict, "other policy")}, api.AlreadyAttached},
		"refused":  {scripted{err: odd}, api.AdoptFailed},
	} {
		a := testAdopter(t, &test.registry)
		a.watchDeletions(true)
		got, err := a.take(t.Context(), api.AttachRequest{}, nil)
		if got != test.want || !errors.Is(err, test.registry.err) || test.registry.detached != nil {
			t.Errorf("%s: %s, %v, detached %v; want %s", name, got, err, test.registry.detached, test.want)
		}
	}
}

// A second call waits for the first one, and no longer than its client does.
func TestOneScanAtATime(t *testing.T) {
	a := testAdopter(t, &scripted{})
	a.turn <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Adopt(ctx, api.AdoptRequest{}); api.CodeOf(err) != api.CodeTryAgainLater {
		t.Errorf("adopt during a scan: %v", err)
	}
	<-a.turn
	for range 2 {
		r, err := a.Adopt(t.Context(), api.AdoptRequest{})
		if err != nil || len(r.Results) != 0 {
			t.Errorf("adopt: %+v, %v", r, err)
		}
	}
}
