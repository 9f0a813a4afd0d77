// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

func TestBadRequests(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	tooLong := `{"containerID":"` + strings.Repeat("a", 10<<20) + `"}`
	for name, test := range map[string]struct {
		path, body string
		code       api.Code
		mentions   string
	}{
		"truncated JSON": {attachPath, attachBody[:30], api.CodeDecoding, "unexpected EOF"},
		"empty":          {attachPath, "", api.CodeDecoding, "EOF"},
		"unknown field": {
			attachPath, `{"containerid":"a","failurepolicies":"Fail"}`, api.CodeDecoding,
			"failurepolicies",
		},
		"wrong type": {attachPath, `{"containerID":1}`, api.CodeDecoding, "containerID"},
		"two values": {attachPath, attachBody + "{}", api.CodeDecoding, "data after"},
		"too large":  {attachPath, tooLong, api.CodeDecoding, "larger than"},
		"no key":     {attachPath, `{"origin":"cni"}`, api.CodeInvalidConfig, "container ID"},
		"no origin":  {attachPath, strings.Replace(attachBody, "cni", "", 1), 7, "origin"},
		"invalid policy": {attachPath, strings.Replace(attachBody, `"pod":{}`,
			`"failurePolicy":"x"`, 1), 7, "policy"},
		"adopt":   {adoptPath, `{"dryrun":true,"all":true}`, api.CodeDecoding, "all"},
		"collect": {collectPath, `{"network":"n","validAttachments":{}}`, api.CodeDecoding, "valid"},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, socket)
			// The server does not read a body that is too large to its end.
			_, err := io.WriteString(c, request("POST", test.path, test.body))
			if err != nil && len(test.body) < api.MaxBody {
				t.Fatal(err)
			}
			code, msg, _ := c.receive()
			if code != test.code || !strings.Contains(msg, test.mentions) {
				t.Errorf("code %d, %q; want %d with %q", code, msg, test.code, test.mentions)
			}
		})
	}
	if got := d.Calls(); got != nil {
		t.Errorf("calls %v", got)
	}
}

// Our own client gets the same word for a body that is too large.
func TestClientBodyTooLarge(t *testing.T) {
	var d apitest.Daemon
	c := api.NewClient(d.Start(t))
	req := testRequest()
	req.Network = strings.Repeat("x", 10<<20)
	_, err := c.Attach(t.Context(), req, nil)
	if api.CodeOf(err) != api.CodeDecoding || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("attach: %.200v", err)
	}
}

// slowBackend is a daemon whose status call waits.
type slowBackend struct {
	apitest.Daemon
	called, proceed chan struct{}
}

func (b *slowBackend) Status(ctx context.Context) (api.Status, error) {
	close(b.called)
	<-b.proceed
	return api.Status{PID: 7}, ctx.Err()
}

// serve serves b with short limits; wait returns when the server has stopped.
// serve has clients wait for the limit at most; zero is for the usual ones.
func serve(t *testing.T, b api.Backend, limit time.Duration) (path string, stop, wait func()) {
	t.Helper()
	path = apitest.SocketPath(t)
	l, err := api.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	log := slog.New(slog.DiscardHandler)
	go func() {
		if limit == 0 {
			served <- api.Serve(ctx, l, b, log)
			return
		}
		served <- api.ServeWithin(ctx, l, b, log, limit)
	}()
	wait = sync.OnceFunc(func() {
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("serve: %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("the server does not stop")
		}
	})
	t.Cleanup(func() { cancel(); wait() })
	return path, cancel, wait
}

func TestStalledClient(t *testing.T) {
	var d apitest.Daemon
	socket, _, _ := serve(t, &d, 30*time.Millisecond)
	for name, start := range map[string]string{
		"nothing":     "",
		"first byte":  "P",
		"headers":     "POST /v1/attachments HTTP/1.1\r\nHost: x\r\n",
		"some body":   request("POST", attachPath, attachBody)[:100],
		"between two": request("GET", attachPath, ""),
	} {
		t.Run(name, func(t *testing.T) {
			noLeak(t, func() {
				c := dial(t, socket)
				if start != "" {
					_ = c.trySend(start, 0) // a slow machine has stalled before that
				}
				if _, err := io.Copy(io.Discard, c.r); err != nil && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the server keeps the connection: %v", err)
				}
				_ = c.Close()
			})
		})
	}
	patiently(t, "other clients", func() error {
		_, err := api.NewClient(socket).List(t.Context())
		return err
	})
}

// patiently makes a call until it succeeds. Where a client has a short time for a
// request, a busy machine may take longer for an honest one too.
func patiently(t *testing.T, what string, call func() error) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		err := call()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		default:
		}
	}
}

// thoroughBackend takes longer to adopt than a client may take for a request.
type thoroughBackend struct {
	apitest.Daemon
	takes time.Duration
}

func (b *thoroughBackend) Adopt(
	ctx context.Context, req api.AdoptRequest,
) (api.AdoptResults, error) {
	select {
	case <-ctx.Done():
		return api.AdoptResults{}, ctx.Err()
	case <-time.After(b.takes):
		return b.Daemon.Adopt(ctx, req)
	}
}

func TestAdoptMayTakeLong(t *testing.T) {
	const limit = 100 * time.Millisecond
	b := thoroughBackend{takes: 3 * limit}
	socket, _, _ := serve(t, &b, limit)
	patiently(t, "adopt", func() error {
		_, err := api.NewClient(socket).Adopt(t.Context(), api.AdoptRequest{})
		if err != nil && slices.Contains(b.Calls(), "adopt") {
			t.Errorf("adopt: %v", err)
			return nil
		}
		return err
	})
}

func TestStopFinishesCalls(t *testing.T) {
	b := slowBackend{called: make(chan struct{}), proceed: make(chan struct{})}
	socket, stop, wait := serve(t, &b, time.Minute)
	type answer struct {
		status api.Status
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		s, err := api.NewClient(socket).Status(t.Context())
		answers <- answer{s, err}
	}()
	<-b.called
	stop()
	close(b.proceed)
	wait()
	if a := <-answers; a.err != nil || a.status.PID != 7 {
		t.Errorf("call in progress: %+v", a)
	}
	if _, err := api.NewClient(socket).List(t.Context()); !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("call afterwards: %v", err)
	}
}

// chattyBackend has more to tell a watch than a client takes.
type chattyBackend struct {
	apitest.Daemon
}

func (b *chattyBackend) Watch(
	_ context.Context, _ api.WatchRequest, started func() error,
	emit func([]api.PacketEvent) error,
) error {
	if err := started(); err != nil {
		return err
	}
	for {
		if err := emit([]api.PacketEvent{{Verdict: strings.Repeat("x", 10_000)}}); err != nil {
			return err
		}
	}
}

// Neither a client that says nothing nor one that takes nothing holds up a
// server that stops.
func TestStopDoesNotWaitForClients(t *testing.T) {
	var b chattyBackend
	socket, stop, wait := serve(t, &b, 0)
	silent, stalled := dial(t, socket), dial(t, socket)
	silent.send("G", 0)
	stalled.send(request("GET", "/v1/watch", ""), 0)
	if _, err := stalled.r.ReadByte(); err != nil { // the stream has begun
		t.Fatal(err)
	}
	stop()
	wait()
}

func TestKeyValidate(t *testing.T) {
	long := strings.Repeat("a", 200)
	for _, test := range []struct {
		id, ifname string
		valid      bool
	}{
		{"c0ffee", "eth0", true},
		{"0.A-z_9", "!\"%&=_^", true},
		{long, "0123456789abcde", true},
		{"a", "ä", true},
		{long + "a", "eth0", false},
		{"a", "0123456789abcdef", false},
		{"a", "äääääää_", true},
		{"a", "ääääääää", false}, // 16 bytes
		{"a", "à", false},        // has the byte a0
		{"", "eth0", false},
		{".", "eth0", false},
		{"-a", "eth0", false},
		{"_a", "eth0", false},
		{"a/b", "eth0", false},
		{"a b", "eth0", false},
		{"ä", "eth0", false},
		{"a\n", "eth0", false},
		{"a", "", false},
		{"a", ".", false},
		{"a", "..", false},
		{"a", "...", true},
		{"a", "a/b", false},
		{"a", "a:b", false},
		{"a", "a b", false},
		{"a", "a\v", false},
		{"a", "a\x00", false},
	} {
		key := api.Key{ContainerID: test.id, Ifname: test.ifname}
		if err := key.Validate(); (err == nil) != test.valid {
			t.Errorf("key %q: %v, want valid: %v", key, err, test.valid)
		}
	}
}

func TestValidate(t *testing.T) {
	valid := testRequest()
	for name, change := range map[string]func(*api.AttachRequest){
		"container ID": func(r *api.AttachRequest) { r.ContainerID = "-a" },
		"ifname":       func(r *api.AttachRequest) { r.Ifname = "0123456789abcdef" },
		"origin":       func(r *api.AttachRequest) { r.Origin = "CNI" },
		"policy":       func(r *api.AttachRequest) { r.FailurePolicy = "fail" },
	} {
		r := valid
		change(&r)
		if err := r.Validate(); err == nil || valid.Validate() != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	valid.FailurePolicy = "" // the daemon's default
	if diff := cmp.Diff(nil, valid.Validate()); diff != "" {
		t.Error(diff)
	}
}
