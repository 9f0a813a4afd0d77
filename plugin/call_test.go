// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
	"github.com/nsqueue/nsqueue/internal/printable"
)

func TestCNIError(t *testing.T) {
	own := types.NewError(types.ErrInvalidNetNS, "m", "d")
	for _, test := range []struct {
		err       error
		code      uint
		msg, more string
	}{
		{own, 8, "m", "d"},
		{fmt.Errorf("add: %w", own), 8, "m", "d"},
		{&api.Error{Code: api.CodeConflict, Msg: "m", Details: "d"}, 102, "m", "d"},
		{fmt.Errorf("x: %w", api.Errorf(api.CodeNotInspected, "m")), 101, "m", ""},
		{fmt.Errorf("%w at /s: eof", api.ErrUnavailable), 11, "/s: eof", "start nsqueued"},
		{errors.New("m"), 999, "m", ""},
	} {
		e := cniError(test.err)
		if e.Code != test.code || !strings.Contains(e.Msg, test.msg) ||
			!strings.Contains(e.Details, test.more) {
			t.Errorf("cniError(%v) = %+v", test.err, e)
		}
	}
}

// listen makes a listener that tests serve, or not, as they like.
func listen(t *testing.T) (*net.UnixListener, string) {
	t.Helper()
	path := apitest.SocketPath(t)
	l, err := api.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, path
}

// unreachable are sockets without a daemon behind them; those of the second
// kind keep a caller waiting.
func unreachable(t *testing.T) (atOnce, silent map[string]string) {
	t.Helper()
	stale, stalePath := listen(t)
	stale.SetUnlinkOnClose(false)
	_ = stale.Close()

	closing, closingPath := listen(t)
	go func() {
		for {
			c, err := closing.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	_, silentPath := listen(t)
	atOnce = map[string]string{
		"missing": apitest.SocketPath(t), "refused": stalePath, "closed": closingPath,
	}
	return atOnce, map[string]string{"silent": silentPath}
}

func TestDaemonUnreachable(t *testing.T) {
	netns := apitest.OtherNetns(t)
	atOnce, silent := unreachable(t)
	run := func(command, socket, policy string, l limits) outcome {
		return invocation{
			command: command,
			stdin: conf(socket, prevResult, `"cni.dev/valid-attachments":[]`,
				`"failurePolicy":"`+policy+`"`),
			env:    map[string]string{"CNI_NETNS": netns},
			limits: l,
		}.run()
	}
	wantIgnored := func(t *testing.T, command string, o outcome) {
		t.Helper()
		want := ""
		if command == "ADD" {
			want = `{"cniVersion":"1.1.0"}`
		}
		o.wantSuccess(t, want)
		if strings.Count(o.stderr, "nsqueued is not available") != 1 {
			t.Errorf("stderr %q, want one line that says why", o.stderr)
		}
	}
	for _, command := range []string{"ADD", "CHECK", "GC", "STATUS"} {
		for name, socket := range atOnce {
			t.Run(command+" "+name, func(t *testing.T) {
				wantIgnored(t, command, run(command, socket, "Ignore", endlessLimits()))
			})
		}
		for name, socket := range silent {
			t.Run(command+" "+name, func(t *testing.T) {
				wantIgnored(t, command, run(command, socket, "Ignore", shortLimits()))
			})
		}
		for _, sockets := range []map[string]string{atOnce, silent} {
			for name, socket := range sockets {
				t.Run(command+" Fail "+name, func(t *testing.T) {
					code := types.ErrTryAgainLater
					if command == "STATUS" {
						code = types.ErrPluginNotAvailable
					}
					run(command, socket, "Fail", shortLimits()).wantError(t, code, socket, "start nsqueued")
				})
			}
		}
	}
}

// Under Fail a daemon that is just starting is waited for.
func TestAddWaitsForDaemon(t *testing.T) {
	l, path := listen(t)
	l.SetUnlinkOnClose(false)
	var d apitest.Daemon
	served := make(chan struct{})
	go func() {
		defer close(served)
		for range 3 { // attempts that fail
			c, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			_ = c.Close()
		}
		_ = l.Close()
		again, err := api.Listen(path)
		if err != nil {
			t.Error(err)
			return
		}
		d.Serve(t, again)
	}()
	o := invocation{
		command: "ADD",
		stdin:   conf(path, prevResult, `"failurePolicy":"Fail"`),
		env:     map[string]string{"CNI_NETNS": apitest.OtherNetns(t)},
	}.run()
	<-served
	o.wantSuccess(t, `{"cniVersion":"1.1.0"}`)
	if len(d.Attached()) != 1 {
		t.Errorf("%d attach calls, want 1", len(d.Attached()))
	}
}

// attempts ends the time for calls when the daemon gets the second one: the
// answer to the first was read then.
type attempts struct {
	calls atomic.Int64
	end   atomic.Pointer[context.CancelFunc]
}

func (a *attempts) two(
	ctx context.Context, _ time.Duration,
) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	a.calls.Store(0)
	a.end.Store(&cancel)
	return ctx, cancel
}

// count counts a call that the daemon gets.
func (a *attempts) count() {
	if end := a.end.Load(); a.calls.Add(1) == 2 && end != nil {
		(*end)()
	}
}

// Which of the daemon's errors a runtime gets to see, by policy.
func TestDaemonErrors(t *testing.T) {
	netns := apitest.OtherNetns(t)
	var code atomic.Uint64
	var attempts attempts
	d := apitest.Daemon{Err: func(string) error {
		attempts.count()
		return &api.Error{Code: api.Code(code.Load()), Msg: "no", Details: "way"}
	}}
	socket := d.Start(t)
	lasting := []api.Code{2, 6, 7, 8, 102}
	for _, c := range []api.Code{2, 6, 7, 8, 11, 50, 51, 100, 101, 102, 999} {
		code.Store(uint64(c))
		for command, ignored := range map[string]bool{
			"ADD":    !slices.Contains(lasting, c),
			"GC":     !slices.Contains(lasting, c),
			"CHECK":  !slices.Contains(append(lasting, 100, 101), c),
			"STATUS": true,
		} {
			for _, policy := range []api.Policy{api.Ignore, api.Fail} {
				t.Run(fmt.Sprint(command, " ", policy, " ", c), func(t *testing.T) {
					i := invocation{
						command: command,
						stdin: conf(socket, prevResult, `"cni.dev/valid-attachments":[]`,
							`"failurePolicy":"`+string(policy)+`"`),
						env: map[string]string{"CNI_NETNS": netns},
					}
					if c == api.CodeTryAgainLater && policy == api.Fail && command != "STATUS" {
						i.withTimeout = attempts.two // there is no other end of it
					}
					o := i.run()
					want := uint(c)
					if command == "STATUS" && c != 51 {
						want = 50
					}
					switch {
					case policy == api.Fail || !ignored:
						o.wantError(t, want, "no; way")
					case o.status != 0 || !strings.Contains(o.stderr, "no; way"):
						t.Errorf("%+v, want success and a log line", o)
					}
				})
			}
		}
	}
}

// What an error quotes does nothing to a terminal, and begins no line of a log.
func TestErrorIsPrintable(t *testing.T) {
	const evil = "\x1b[2J\u009b31m\u202e\x7f\r"
	d := apitest.Daemon{Err: func(string) error {
		return &api.Error{Code: api.CodeConflict, Msg: "first" + evil, Details: evil + "\nsecond"}
	}}
	stdin := conf(d.Start(t), prevResult)
	o := invocation{
		command: "ADD", stdin: stdin, env: map[string]string{"CNI_NETNS": apitest.OtherNetns(t)},
	}.run()
	const escaped = `\x1b[2J\u009b31m\u202e\x7f`
	o.wantError(t, uint(api.CodeConflict), "first"+escaped, escaped, "; second")
	if line := strings.TrimSuffix(o.stdout, "\n"); printable.Line(line) != line {
		t.Errorf("%q", line)
	}
}

func TestCollect(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	o := invocation{command: "GC", stdin: conf(socket,
		`"cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0","x":1},`+
			`{"containerID":"b","ifname":"eth1"}]`)}.run()
	o.wantSuccess(t, "")
	invocation{command: "GC", stdin: conf(socket, `"cni.dev/attachments":null`)}.run().
		wantSuccess(t, "")
	want := []api.CollectRequest{
		{Network: "cbr0", Valid: []api.Key{
			{ContainerID: "a", Ifname: "eth0"}, {ContainerID: "b", Ifname: "eth1"},
		}},
		{Network: "cbr0"},
	}
	if diff := cmp.Diff(want, d.Collected()); diff != "" {
		t.Errorf("collect requests (-want +got):\n%s", diff)
	}
	// No list at all must not pass for an empty one.
	invocation{command: "GC", stdin: conf(socket)}.run().
		wantError(t, types.ErrInvalidNetworkConfig, keyValidAttachments)
	if n := len(d.Collected()); n != 2 {
		t.Errorf("%d collect calls, want 2", n)
	}
}

func TestStatus(t *testing.T) {
	for _, policy := range []api.Policy{api.Ignore, api.Fail} {
		var d apitest.Daemon
		invocation{
			command: "STATUS", stdin: conf(d.Start(t), `"failurePolicy":"`+string(policy)+`"`),
		}.run().wantSuccess(t, "")
		if diff := cmp.Diff([]string{"status"}, d.Calls()); diff != "" {
			t.Error(diff)
		}
	}
}

// Pods that lose packets take the node out of service, where the configuration
// says that no packet may pass uninspected.
func TestStatusWithProblems(t *testing.T) {
	problem := func(name string, policy api.Policy) api.Problem {
		return api.Problem{
			Key: api.Key{ContainerID: name, Ifname: "eth0"}, FailurePolicy: policy,
			Pod: api.Pod{Namespace: "default", Name: name}, Message: "hook is gone",
		}
	}
	a, b, c := problem("a", api.Ignore), problem("b", api.Fail), problem("c", api.Fail)
	for _, test := range []struct {
		problems []api.Problem
		mentions []string // none where there is nothing to say
	}{
		{[]api.Problem{a}, nil},
		{[]api.Problem{a, b}, []string{"1 attachments", "default/b", "b/eth0", "hook is gone"}},
		{[]api.Problem{b, a, c}, []string{"2 attachments", "default/b"}},
	} {
		d := apitest.Daemon{Info: api.Status{Problems: test.problems}}
		socket := d.Start(t)
		strict := invocation{command: "STATUS", stdin: conf(socket, `"failurePolicy":"Fail"`)}.run()
		lax := invocation{command: "STATUS", stdin: conf(socket)}.run()
		lax.wantSuccess(t, "")
		if test.mentions == nil {
			strict.wantSuccess(t, "")
			continue
		}
		strict.wantError(t, types.ErrLimitedConnectivity, test.mentions...)
		for _, m := range test.mentions {
			if !strings.Contains(lax.stderr, m) {
				t.Errorf("log %q under Ignore lacks %q", lax.stderr, m)
			}
		}
	}
}
