// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

func TestDel(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	own := `"socket":"` + socket + `"`
	for name, stdin := range map[string]string{
		"stock":           conf(socket),
		"with prevResult": conf(socket, prevResult),
		"unknown key":     conf(socket, `"nonsense":1`),
		"invalid value":   conf(socket, `"failurePolicy":"no"`),
		"wrong type":      conf(socket, `"excludeNamespaces":{}`),
		"no name":         `{"cniVersion":"1.1.0",` + own + `}`,
		"no version":      `{"name":"n",` + own + `}`,
		"old version":     `{"cniVersion":"0.1.0","name":"n",` + own + `}`,
		"future version":  `{"cniVersion":"7.0.0","name":"n",` + own + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			for _, netns := range []string{"", "/nowhere", "/etc/passwd", apitest.OwnNetns} {
				before := len(d.Calls())
				env := map[string]string{"CNI_NETNS": netns}
				invocation{command: "DEL", stdin: stdin, env: env}.run().wantSuccess(t, "")
				if diff := cmp.Diff([]string{"detach ended c0ffee/eth0"}, d.Calls()[before:]); diff != "" {
					t.Errorf("calls (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestDelWithBadConfig(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	for name, bad := range badConfigs() {
		t.Run(name, func(t *testing.T) {
			o := invocation{command: "DEL", stdin: bad.config, limits: shortLimits()}.run()
			o.wantSuccess(t, "")
			if !strings.Contains(o.stderr, "config not valid") {
				t.Errorf("stderr %q does not say that the config is bad", o.stderr)
			}
		})
	}
	for name, env := range map[string]map[string]string{
		"no container ID":  {"CNI_CONTAINERID": ""},
		"no interface":     {"CNI_IFNAME": ""},
		"bad container ID": {"CNI_CONTAINERID": "a/b"},
		"bad interface":    {"CNI_IFNAME": ".."},
	} {
		t.Run(name, func(t *testing.T) {
			o := invocation{command: "DEL", stdin: conf(socket), env: env}.run()
			o.wantSuccess(t, "")
			if !strings.Contains(o.stderr, "it names no attachment") {
				t.Errorf("stderr %q does not say why", o.stderr)
			}
		})
	}
	if calls := d.Calls(); calls != nil {
		t.Errorf("the daemon was called: %v", calls)
	}
}

func TestDelSocket(t *testing.T) {
	for stdin, want := range map[string]string{
		`{"socket":"/a"}`:                "/a",
		`{"socket":"a"}`:                 api.DefaultSocket,
		`{"socket":7}`:                   api.DefaultSocket,
		`{"socket":null,"x":1}`:          api.DefaultSocket,
		`{"socket":"/a","x":1,"name":0}`: "/a",
		`{"socket":"/a"`:                 api.DefaultSocket,
		``:                               api.DefaultSocket,
		`null`:                           api.DefaultSocket,
	} {
		o := invocation{command: "DEL", stdin: stdin, limits: shortLimits()}.run()
		o.wantSuccess(t, "")
		if !strings.Contains(o.stderr, "socket="+want+" ") {
			t.Errorf("DEL of %s went elsewhere than to %s:\n%s", stdin, want, o.stderr)
		}
	}
}

func TestDelWithoutDaemon(t *testing.T) {
	atOnce, silent := unreachable(t)
	for name, socket := range atOnce {
		t.Run(name, func(t *testing.T) {
			o := invocation{command: "DEL", stdin: conf(socket)}.run()
			o.wantSuccess(t, "")
			if !strings.Contains(o.stderr, "nsqueued not reached") {
				t.Error(o.stderr)
			}
		})
	}
	for name, socket := range silent {
		t.Run(name, func(t *testing.T) {
			o := invocation{command: "DEL", stdin: conf(socket), limits: shortLimits()}.run()
			o.wantSuccess(t, "")
			if !strings.Contains(o.stderr, "nsqueued not reached") {
				t.Error(o.stderr)
			}
		})
	}
}

func TestDelErrors(t *testing.T) {
	d := apitest.Daemon{Err: func(string) error { return errors.New("no way") }}
	o := invocation{command: "DEL", stdin: conf(d.Start(t))}.run()
	o.wantSuccess(t, "")
	if !strings.Contains(o.stderr, "no way") {
		t.Errorf("stderr %q does not have the daemon's error", o.stderr)
	}
}

// panicReader stands for any bug.
type panicReader struct{}

func (panicReader) Read([]byte) (int, error) { panic("never") }

func TestDelWithBrokenStreams(t *testing.T) {
	for _, stdin := range []io.Reader{iotest.ErrReader(errors.New("no")), panicReader{}} {
		var stdout strings.Builder
		p := process{
			getenv: func(name string) string {
				return map[string]string{"CNI_COMMAND": "DEL"}[name]
			},
			stdin: stdin, stdout: &stdout, stderr: io.Discard, limits: shortLimits(),
			withTimeout: context.WithTimeout,
			spoolPath:   testSpool,
		}
		if status := p.run(); status != 0 || stdout.Len() > 0 {
			t.Errorf("status %d, stdout %q", status, stdout.String())
		}
	}
}
