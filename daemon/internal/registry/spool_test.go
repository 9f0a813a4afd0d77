// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/internal/boottime"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// An attachment is ended by calls that are younger only, also after a restart.
func TestDetachOlder(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, _ := nstest.Pair(t)
	before := boottime.Now()
	a := d.attach("one", pod, api.Ignore)
	after := boottime.Now()
	nstest.Must(t, d.DetachOlder(t.Context(), api.DetachRequest{Key: a.Key}, before))
	nstest.Must(t, d.Check(t.Context(), a.Key))
	d.restart()
	nstest.Must(t, d.DetachOlder(t.Context(), api.DetachRequest{Key: a.Key}, before))
	nstest.Must(t, d.Check(t.Context(), a.Key))
	nstest.Must(t, d.DetachOlder(t.Context(), api.DetachRequest{Key: a.Key}, after))
	d.wantNothing(pod)
	nstest.Must(t, d.DetachOlder(t.Context(), api.DetachRequest{Key: a.Key}, after))
}

// The time that counts is that of the call, not that of the attaching.
func TestAttachCalled(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, _ := nstest.Pair(t)
	called := boottime.Now()
	del := called + time.Nanosecond
	req := request("one", pod, api.Ignore)
	if _, err := d.AttachCalled(t.Context(), req, pod.File(t), called); err != nil {
		t.Fatal(err)
	}
	nstest.Must(t, d.DetachOlder(t.Context(), api.DetachRequest{Key: req.Key}, called))
	nstest.Must(t, d.Check(t.Context(), req.Key))
	nstest.Must(t, d.DetachOlder(t.Context(), api.DetachRequest{Key: req.Key}, del))
	d.wantNothing(pod)
}
