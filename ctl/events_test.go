// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// happened are events of the tests' daemon.
func happened() []api.Event {
	return []api.Event{
		{
			Time: testNow(), Kind: api.EventTakeOver,
			Key: api.Key{ContainerID: "0fd31c8e5a2b77aa01", Ifname: "eth0"},
			Pod: api.Pod{Namespace: "default", Name: "busybox1"}, Netns: 4097,
			Message: "attachment of an earlier daemon taken over",
		},
		{
			Time: testNow().Add(time.Minute), Kind: api.EventSecurity,
			Key: api.Key{ContainerID: "0fd4", Ifname: "eth0"}, Netns: 4098, Message: "queue 80 is taken",
		},
	}
}

func TestEvents(t *testing.T) {
	d := apitest.Daemon{Happened: happened()}
	socket := d.Start(t)
	nsqueuectl(t.Context(), socket, "events").want(t, 0, `
TIME                  KIND      ATTACHMENT         POD               MESSAGE
2026-01-02T03:04:05Z  takeOver  0fd31c8e5a2b/eth0  default/busybox1  attachment of an earlier daemon taken over
2026-01-02T03:05:05Z  security  0fd4/eth0          -                 queue 80 is taken
`[1:], "")

	o := nsqueuectl(t.Context(), socket, "events", "-o", "json")
	var got api.EventList
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil || o.status != 0 {
		t.Fatalf("%+v: %v", o, err)
	}
	if diff := cmp.Diff(api.EventList{Events: happened()}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	o = nsqueuectl(t.Context(), socket, "events", "-o", "yaml")
	if !strings.HasPrefix(o.stdout, "events:\n- containerID: 0fd31c8e5a2b77aa01\n") {
		t.Errorf("%+v", o)
	}
}

// refused are events about what rules have decided.
func refused() []api.Event {
	list := happened()[:1]
	for i, kind := range []api.EventKind{api.EventRefusal, api.EventAudit} {
		r := api.Refusal{
			Rule: []string{"web/default", "web/names"}[i], Verdict: []string{"reject", "drop"}[i],
			Direction: "out", Protocol: "tcp", Address: "192.0.2.1", Port: 443,
			App: "tls", Name: "a.example", Count: uint64(1 + i), Suppressed: uint64(3 * i),
		}
		list = append(list, api.Event{
			Time: testNow().Add(time.Minute), Kind: kind, Key: list[0].Key, Pod: list[0].Pod,
			Message: r.Text(kind == api.EventAudit), Refusal: r,
		})
	}
	return list
}

// Events about refusals are chosen by what has decided.
func TestRefusals(t *testing.T) {
	const rejected = "rejected by web/default: tcp to 192.0.2.1:443, tls a.example\n"
	const audited = "would be dropped by web/names: tcp to 192.0.2.1:443, tls a.example" +
		" (2 times) (and 3 more of the rule)\n"
	d := apitest.Daemon{Happened: refused()}
	socket := d.Start(t)
	for line, want := range map[string]string{
		"--rule web":                        rejected + audited,
		"--rule web/default":                rejected,
		"--rule web/names --verdict drop":   audited,
		"--verdict reject":                  rejected,
		"--verdict reject --rule web/names": "",
		"--rule we":                         "",
	} {
		o := nsqueuectl(t.Context(), socket, append([]string{"events"}, strings.Fields(line)...)...)
		var got strings.Builder
		for row := range strings.Lines(o.stdout) {
			if _, message, ok := strings.Cut(row, "default/busybox1  "); ok {
				got.WriteString(message)
			}
		}
		if got.String() != want || o.status != 0 {
			t.Errorf("%s: %+v, want %q", line, o, want)
		}
	}
	for _, line := range []string{"--verdict accept", "--rule /a"} {
		o := nsqueuectl(t.Context(), socket, append([]string{"events"}, strings.Fields(line)...)...)
		if o.status != 2 || !strings.Contains(o.err, "want ") {
			t.Errorf("%s: %+v", line, o)
		}
	}
	o := nsqueuectl(t.Context(), socket, "events", "-o", "json")
	var got api.EventList
	err := json.Unmarshal([]byte(o.stdout), &got)
	if diff := cmp.Diff(refused(), got.Events); err != nil || diff != "" {
		t.Errorf("events (-want +got):\n%s%v", diff, err)
	}
}

func TestNoEvents(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	nsqueuectl(t.Context(), socket, "events").want(t, 0, "", "No events.\n")
	nsqueuectl(t.Context(), socket, "events", "-o", "json").
		want(t, 0, "{\n  \"events\": []\n}\n", "")
}

func TestNews(t *testing.T) {
	list := func(messages string) (l []api.Event) {
		for _, m := range messages {
			l = append(l, api.Event{Time: testNow(), Message: string(m)})
		}
		return l
	}
	for _, tt := range []struct{ earlier, later, want string }{
		{"", "", ""},
		{"", "ab", "ab"},
		{"ab", "ab", ""},
		{"ab", "abc", "c"},
		{"abc", "bcd", "d"},
		{"abc", "de", "de"}, // all forgotten, or another daemon
		{"abc", "", ""},
		{"abc", "acd", "d"}, // some are forgotten before older ones
		{"aa", "aaa", "a"},
	} {
		got := addedEvents(list(tt.earlier), list(tt.later))
		if diff := cmp.Diff(list(tt.want), append([]api.Event(nil), got...)); diff != "" {
			t.Errorf("from %q to %q (-want +got):\n%s", tt.earlier, tt.later, diff)
		}
	}
}

// A follower goes on over a daemon that ends, until it is interrupted.
func TestFollowEvents(t *testing.T) {
	var away atomic.Bool
	d := apitest.Daemon{Happened: happened(), Err: func(string) error {
		if away.Load() {
			panic("which ends the connection")
		}
		return nil
	}}
	socket := d.Start(t)
	for output, want := range map[string]string{
		"table": "2026-01-02T03:04:05Z  takeOver    0fd31c8e5a2b/eth0  default/busybox1  " +
			"attachment of an earlier daemon taken over\n",
		"json": `{"time":"2026-01-02T03:04:05Z","kind":"takeOver",` +
			`"containerID":"0fd31c8e5a2b77aa01","ifname":"eth0",` +
			`"pod":{"namespace":"default","name":"busybox1"},"netns":4097,` +
			`"message":"attachment of an earlier daemon taken over"}` + "\n",
	} {
		away.Store(false)
		out, errs, status := follow(t, socket, output)
		if got := read(t, out); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		read(t, out)
		away.Store(true)
		if got := read(t, errs); got != "nsqueued does not answer; waiting for it\n" {
			t.Errorf("standard error %q", got)
		}
		if got := status(); got != 0 {
			t.Errorf("exit status %d, want 0", got)
		}
	}
}

// follow runs the command until status is called, which interrupts it.
func follow(t *testing.T, socket, output string) (out, errs *bufio.Reader, status func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	outRead, outWrite := io.Pipe()
	errRead, errWrite := io.Pipe()
	s := &IOStreams{
		out: outWrite, err: errWrite, now: testNow, progressAfter: time.Minute,
		getenv: func(string) string { return socket },
	}
	var code int
	var running sync.WaitGroup
	running.Go(func() { code = execute(ctx, s, []string{"events", "--follow", "-o", output}) })
	return bufio.NewReader(outRead), bufio.NewReader(errRead), func() int {
		cancel()
		running.Wait()
		return code
	}
}

func read(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}
