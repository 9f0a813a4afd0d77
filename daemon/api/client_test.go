// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

func testKey() api.Key { return api.Key{ContainerID: "c0ffee", Ifname: "eth0"} }

func testRequest() api.AttachRequest {
	return api.AttachRequest{
		Key: testKey(), Network: "cbr0", Origin: api.OriginCNI, NetnsPath: "/run/netns/a",
		Pod:           api.Pod{Namespace: "default", Name: "web", UID: "u"},
		FailurePolicy: api.Fail, Warnings: []string{"<one>", "two"},
	}
}

func TestRoundTrips(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	d := apitest.Daemon{
		Attachments: []api.Attachment{{
			Key: testKey(), Network: "cbr0", Origin: api.OriginCNI, Pod: api.Pod{Name: "web"},
			Netns: api.Netns{Cookie: 1 << 63, Dev: 4, Ino: 5, Path: "/p"}, Hook: "nft",
			State: api.Active, FailurePolicy: api.Fail,
			Queues:   []api.Queue{{Number: 65535, Length: 4096}},
			Counters: api.Counters{Packets: 1, Bytes: 2, Accepted: 3, Dropped: 4, Queued: 5},
			Created:  now,
		}},
		Info: api.Status{
			Version: "v", PID: 7, Started: now, Hook: api.HookStatus{Kind: "nft"},
			Supervisor: api.Supervisor{Kind: api.Supervise, PID: 6, Restarts: 2},
		},
		Found: []api.AdoptResult{{
			Key: testKey(), Pod: api.Pod{Name: "web"}, Network: "cbr0",
			Netns:   api.Netns{Cookie: 1, Dev: 4, Ino: 5, Path: "/p"},
			Outcome: api.AdoptSkipped, Reason: "r",
		}},
	}
	c := api.NewClient(d.Start(t))
	ctx := t.Context()

	a, err := c.Attach(ctx, testRequest(), nil)
	if err != nil || a.Key != testKey() || a.FailurePolicy != api.Fail {
		t.Errorf("attach: %+v, %v", a, err)
	}
	if diff := cmp.Diff(testRequest(), d.Attached()[0].AttachRequest); diff != "" {
		t.Errorf("attach request (-want +got):\n%s", diff)
	}
	list, err := c.List(ctx)
	want := api.AttachmentList{Attachments: d.Attachments}
	if diff := cmp.Diff(want, list); diff != "" || err != nil {
		t.Errorf("list: %v\n%s", err, diff)
	}
	found, err := c.Adopt(ctx, api.AdoptRequest{DryRun: true})
	if diff := cmp.Diff(api.AdoptResults{Results: d.Found}, found); diff != "" || err != nil {
		t.Errorf("adopt: %v\n%s", err, diff)
	}
	status, err := c.Status(ctx)
	if diff := cmp.Diff(d.Info, status); diff != "" || err != nil {
		t.Errorf("status: %v\n%s", err, diff)
	}
	collect := api.CollectRequest{Network: "cbr0", Valid: []api.Key{testKey()}}
	r, err := c.Collect(ctx, collect)
	if err != nil || r.Detached != 1 {
		t.Errorf("collect: %+v, %v", r, err)
	}
	if diff := cmp.Diff([]api.CollectRequest{collect}, d.Collected()); diff != "" {
		t.Errorf("collect request (-want +got):\n%s", diff)
	}
	if err := c.Upgrade(ctx); err != nil {
		t.Errorf("upgrade: %v", err)
	}
	odd := api.Key{ContainerID: "a.b-c_d", Ifname: "ä%2f+?#"}
	n, err := c.DetachAll(ctx)
	if err := errors.Join(err, c.Check(ctx, odd), c.Detach(ctx, odd)); err != nil || n != 1 {
		t.Errorf("%d detached, %v", n, err)
	}
	wantCalls := []string{
		"attach c0ffee/eth0", "list", "adopt dry", "status", "collect cbr0", "upgrade", "detach all",
		"check " + odd.String(), "detach " + odd.String(),
	}
	if diff := cmp.Diff(wantCalls, d.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// calls are all calls of a client.
func calls(c *api.Client) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"attach": func(ctx context.Context) error {
			_, err := c.Attach(ctx, testRequest(), nil)
			return err
		},
		"detach":     func(ctx context.Context) error { return c.Detach(ctx, testKey()) },
		"detach all": func(ctx context.Context) error { _, err := c.DetachAll(ctx); return err },
		"retire":     func(ctx context.Context) error { _, err := c.Retire(ctx); return err },
		"check":      func(ctx context.Context) error { return c.Check(ctx, testKey()) },
		"collect": func(ctx context.Context) error {
			_, err := c.Collect(ctx, api.CollectRequest{})
			return err
		},
		"adopt": func(ctx context.Context) error {
			_, err := c.Adopt(ctx, api.AdoptRequest{})
			return err
		},
		"describe": func(ctx context.Context) error {
			_, err := c.Describe(ctx, testKey())
			return err
		},
		"list":    func(ctx context.Context) error { _, err := c.List(ctx); return err },
		"status":  func(ctx context.Context) error { _, err := c.Status(ctx); return err },
		"upgrade": c.Upgrade,
		"watch": func(ctx context.Context) error {
			return c.Watch(ctx, api.WatchRequest{}, nil, func([]api.PacketEvent) error { return nil })
		},
	}
}

func TestEmptyListIsNoNull(t *testing.T) {
	var d apitest.Daemon
	l, err := api.NewClient(d.Start(t)).List(t.Context())
	if err != nil || l.Attachments == nil {
		t.Errorf("list %#v, %v", l, err)
	}
	found, err := api.NewClient(d.Start(t)).Adopt(t.Context(), api.AdoptRequest{})
	if err != nil || found.Results == nil {
		t.Errorf("adopt %#v, %v", found, err)
	}
}

func TestCountResults(t *testing.T) {
	r := api.AdoptResults{Results: []api.AdoptResult{
		{Outcome: api.Adopted}, {Outcome: api.AdoptFailed}, {Outcome: api.Adopted},
	}}
	if r.Count(api.Adopted) != 2 || r.Count(api.AdoptFailed) != 1 || r.Count(api.AdoptSkipped) != 0 {
		t.Errorf("counts %d, %d, %d; want 2, 1, 0",
			r.Count(api.Adopted), r.Count(api.AdoptFailed), r.Count(api.AdoptSkipped))
	}
}

func TestInvalidKeyIsNotSent(t *testing.T) {
	var d apitest.Daemon
	c := api.NewClient(d.Start(t))
	for _, key := range []api.Key{
		{},
		{ContainerID: "a"},
		{Ifname: "eth0"},
		{ContainerID: "..", Ifname: "eth0"},
		{ContainerID: "a/b", Ifname: "eth0"},
		{ContainerID: "a", Ifname: ".."},
		{ContainerID: strings.Repeat("a", 201), Ifname: "eth0"},
	} {
		for _, call := range []func(context.Context, api.Key) error{c.Detach, c.Check} {
			if err := call(t.Context(), key); api.CodeOf(err) != api.CodeInvalidConfig {
				t.Errorf("key %q: %v", key, err)
			}
		}
	}
	if got := d.Calls(); got != nil {
		t.Errorf("calls %v", got)
	}
}

func TestErrorsKeepTheirCode(t *testing.T) {
	for _, test := range []struct {
		err  error
		want *api.Error
	}{
		{api.Errorf(api.CodeNotAttached, "no %s", "a"), &api.Error{Code: 100, Msg: "no a"}},
		{&api.Error{Code: 8, Msg: "m", Details: "d"}, &api.Error{Code: 8, Msg: "m", Details: "d"}},
		{&api.Error{Code: 51}, &api.Error{Code: 51}},
		{
			fmt.Errorf("arm: %w", &api.Error{Code: 11, Msg: "m", Details: "d"}),
			&api.Error{Code: 11, Msg: "arm: m; d"},
		},
		{errors.New("odd"), &api.Error{Code: 999, Msg: "odd"}},
	} {
		d := apitest.Daemon{Err: func(string) error { return test.err }}
		for name, call := range calls(api.NewClient(d.Start(t))) {
			if name == "watch" {
				continue // has no answer to put it in
			}
			err := call(t.Context())
			got, ok := errors.AsType[*api.Error](err)
			if !ok || *got != *test.want || errors.Is(err, api.ErrUnavailable) {
				t.Errorf("%s: error %#v, want %#v", name, err, test.want)
			}
		}
	}
}

func TestUnavailable(t *testing.T) {
	listen := func() (path string, closeIt func()) {
		path = apitest.SocketPath(t)
		l, err := api.Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		t.Cleanup(func() { _ = l.Close() })
		return path, func() { _ = l.Close() }
	}
	stale, closeStale := listen()
	closeStale()
	silent, _ := listen()
	for name, test := range map[string]struct {
		socket string
		cause  error
	}{
		"missing": {apitest.SocketPath(t), syscall.ENOENT},
		"refused": {stale, syscall.ECONNREFUSED},
		"silent":  {silent, context.DeadlineExceeded},
	} {
		for call, f := range calls(api.NewClient(test.socket)) {
			ctx, cancel := context.WithCancel(t.Context())
			if name == "silent" { // the others must not take long
				cancel()
				ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
			}
			err := f(ctx)
			cancel()
			if !errors.Is(err, api.ErrUnavailable) || !errors.Is(err, test.cause) ||
				!strings.Contains(err.Error(), test.socket) {
				t.Errorf("%s, %s: %v", name, call, err)
			}
		}
	}
}

func TestWatch(t *testing.T) {
	addr := netip.MustParseAddr
	want := []api.PacketEvent{
		{Packet: 1, Key: testKey(), Source: addr("10.0.0.1"), Destination: addr("10.0.0.2"), SetMark: 7},
		{Packet: 3, Source: addr("fd00::1"), SourcePort: 53, Destination: addr("fd00::2")},
		{Packet: 4},
	}
	d := apitest.Daemon{Packets: want}
	path := apitest.SocketPath(t)
	l, err := api.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	stop := d.Serve(t, l)
	c := api.NewClient(path)

	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var got []api.PacketEvent
		ready := 0
		err := c.Watch(ctx, api.WatchRequest{}, func() { ready++ }, func(events []api.PacketEvent) error {
			if got = append(got, events...); len(got) == len(want) {
				cancel()
			}
			return nil
		})
		if err != nil || ready != 1 {
			t.Errorf("watch: %v, ready %d times", err, ready)
		}
		same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
		if diff := cmp.Diff(want, got, same); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if err := c.Watch(ctx, api.WatchRequest{}, nil, nil); err != nil {
			t.Errorf("watch that is over before it starts: %v", err)
		}
	})
	t.Run("emit fails", func(t *testing.T) {
		enough := errors.New("enough")
		err := c.Watch(t.Context(), api.WatchRequest{}, nil, func([]api.PacketEvent) error { return enough })
		if !errors.Is(err, enough) || errors.Is(err, api.ErrUnavailable) {
			t.Errorf("watch: %v", err)
		}
	})
	t.Run("server stops", func(t *testing.T) {
		err := c.Watch(t.Context(), api.WatchRequest{}, stop, func([]api.PacketEvent) error { return nil })
		if !errors.Is(err, api.ErrUnavailable) {
			t.Errorf("watch: %v", err)
		}
	})
}

func TestAttachPassesNetns(t *testing.T) {
	var d apitest.Daemon
	c := api.NewClient(d.Start(t))
	for i, path := range []string{apitest.OtherNetns(t), apitest.OwnNetns} {
		netns, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Attach(t.Context(), testRequest(), netns)
		if err != nil {
			t.Fatal(err)
		}
		want, err := netns.Stat()
		if err != nil {
			t.Errorf("the descriptor is not ours any more: %v", err)
		}
		if got := d.Attached()[i].Netns; got == nil || !os.SameFile(got, want) {
			t.Errorf("arrived as %+v, want %+v", got, want)
		}
		_ = netns.Close()
	}
}
