// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// limitFiles changes how many files this process may open, until the returned
// function is called.
func limitFiles(t *testing.T, n uint64) (undo func()) {
	t.Helper()
	var before unix.Rlimit
	nstest.Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	nstest.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: before.Max}))
	return func() { nstest.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before)) }
}

// firstFree is the number that the next descriptor gets.
func firstFree(t *testing.T) uint64 {
	t.Helper()
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	nstest.Must(t, err)
	nstest.Must(t, unix.Close(fd))
	return uint64(fd)
}

// A verification that can open nothing, or one or two files, takes nothing for broken, and breaks nothing.
// Detaching ends inspection even then.
func TestNoDescriptorLeft(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, peer := nstest.Pair(t)
	a := d.attach("one", pod, api.Fail)
	var problems []api.Problem
	for left := range uint64(3) {
		undo := limitFiles(t, firstFree(t)+left)
		d.Verify(t.Context())
		problems = append(problems, d.Problems()...)
		undo()
	}
	events, err := d.Events(t.Context())
	nstest.Must(t, err)
	if len(problems) > 0 {
		t.Errorf("problems %v", problems)
	}
	wantKinds(t, events, api.EventAttach)
	nstest.Must(t, d.Check(t.Context(), a.Key))
	if got := peer.Ping(t, pod.IPv4(), 1, reply); got != 1 || d.counters("one").Packets == 0 {
		t.Errorf("%d of 1 pings answered, %+v", got, d.counters("one"))
	}
	undo := limitFiles(t, 1)
	err = d.Detach(t.Context(), a.Key)
	undo()
	if err != nil && !errors.Is(err, unix.EMFILE) {
		t.Error(err)
	}
	d.wantNothing(pod)
	if got := peer.Ping(t, pod.IPv4(), 1, reply); got != 1 {
		t.Error("the pod has no network after it was detached")
	}
}

// Attaching keeps clear of the limit, says so, and touches nothing where it
// does not fit; what is attached already takes nothing.
func TestFDLimit(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, other := nstest.New(t), nstest.New(t)
	before, err := d.Descriptors()
	nstest.Must(t, err)
	d.attach("one", pod, api.Ignore)
	after, err := d.Descriptors()
	nstest.Must(t, err)
	if before.Room-after.Room != 1 || before.Limit != after.Limit || after.Open <= before.Open {
		t.Errorf("%+v, then %+v; want room for one pod less", before, after)
	}
	const limit = 64
	undo := limitFiles(t, limit)
	if full, err := d.Descriptors(); err != nil || full.Room != 0 || full.Limit != limit {
		t.Errorf("%+v, %v; want no room", full, err)
	}
	_, again := d.Attach(t.Context(), request("one", pod, api.Ignore), nil)
	_, err = d.Attach(t.Context(), request("two", other, api.Ignore), nil)
	undo()
	nstest.Must(t, again)
	if !errors.Is(err, unix.EMFILE) || !strings.Contains(err.Error(), "may open 64 (LimitNOFILE=") {
		t.Errorf("%v, want the limit", err)
	}
	if got := stats(t, other); len(got) > 0 {
		t.Errorf("queues are bound: %v", got)
	}
	d.attach("two", other, api.Ignore)
}
