// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// After Retire nothing is attached, whatever was being attached at that moment, and
// nothing is attached any more.
func TestRetire(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pods := []*nstest.NetNS{nstest.New(t), nstest.New(t), nstest.New(t), nstest.New(t)}
	d.attach("ignored", pods[0], api.Ignore)
	d.attach("strict", pods[1], api.Fail)
	var attaching sync.WaitGroup
	for i, id := range []string{"at-once", "as-well"} {
		attaching.Go(func() {
			_, err := d.Attach(t.Context(), request(id, pods[2+i], api.Fail), nil)
			if err != nil && api.CodeOf(err) != api.CodeRetired {
				t.Error(err)
			}
		})
	}
	n, err := d.Retire(t.Context())
	nstest.Must(t, err)
	attaching.Wait()
	if n < 2 || n > 4 || !d.Retired() {
		t.Errorf("%d ended, retired: %v", n, d.Retired())
	}
	d.wantNothing(pods...)
	if _, err := d.Attach(t.Context(), request("late", pods[0], api.Fail), nil); api.CodeOf(err) != api.CodeRetired {
		t.Errorf("attached later: %v", err)
	}
	n, err = d.Retire(t.Context())
	if n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	d.wantNothing(pods...)
}

// What could not be restored at first ends as soon as it can be.
func TestRetireUnrestored(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod := nstest.New(t)
	a := d.attach("hidden", pod, api.Fail)
	nstest.Must(t, d.Suspend())
	nstest.Must(t, d.Registry.Close())
	nstest.Must(t, d.store.Close())
	nstest.Must(t, unix.Mount("/dev/null", pod.Path(), "", unix.MS_BIND, ""))
	d.hidden = true
	d.run()
	n, err := d.Retire(context.WithoutCancel(t.Context()))
	if n != 0 || err == nil || !strings.Contains(err.Error(), a.Key.String()) {
		t.Errorf("while it is hidden: %d, %v", n, err)
	}
	nstest.Must(t, unix.Unmount(pod.Path(), unix.MNT_DETACH))
	d.Verify(t.Context())
	n, err = d.Retire(t.Context())
	if n != 0 || err != nil {
		t.Errorf("afterwards: %d, %v", n, err)
	}
	d.wantNothing(pod)
}
