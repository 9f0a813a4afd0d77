// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// supervisorSays has a supervisor answer with a text until the test ends, and returns its
// runtime directory.
func supervisorSays(t *testing.T, answer string) string {
	t.Helper()
	return supervisorWith(t, func(to io.Writer) error {
		_, err := io.WriteString(to, answer)
		return err
	})
}

// supervisorWith has one answer each question until the test ends, and returns its runtime
// directory.
func supervisorWith(t *testing.T, answer func(io.Writer) error) string {
	t.Helper()
	dir := filepath.Dir(apitest.SocketPath(t))
	l, err := net.Listen("unix", api.SupervisorSocket(dir))
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if err := errors.Join(answer(conn), conn.Close()); err != nil {
				t.Errorf("answer: %v", err)
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return dir
}

func TestReady(t *testing.T) {
	d := apitest.Daemon{Info: api.Status{Version: "v1", Attachments: 2}}
	socket := d.Start(t)
	nsqueuectl(t.Context(), socket, "ready").
		want(t, 0, "ready: nsqueued v1 serves 2 attachments\n", "")
	nsqueuectl(t.Context(), socket, "ready", "-o", "json").want(t, 0,
		"{\n  \"ready\": true,\n  \"version\": \"v1\",\n  \"attachments\": 2\n}\n", "")
	nsqueuectl(t.Context(), socket, "ready", "--timeout", "0s").want(t, 2, "",
		"nsqueuectl: timeout 0s: want more than 0s\nSee nsqueuectl --help.\n")
}

// A probe's answer is one line, and says what is wrong and where.
func TestNotReady(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone.sock")
	nsqueuectl(t.Context(), gone, "ready").want(t, 3, "",
		"nsqueuectl: not ready: nsqueued is not available at "+gone+
			": dial unix "+gone+": connect: no such file or directory\n")
	d := apitest.Daemon{Err: func(string) error { return api.Errorf(api.CodeInternal, "broken\nnow") }}
	nsqueuectl(t.Context(), d.Start(t), "ready").want(t, 1, "",
		"nsqueuectl: not ready: broken\\nnow\n")
}

func TestReadyOfSupervisor(t *testing.T) {
	for name, tt := range map[string]struct {
		answer      string
		status      int
		stdout, err string
	}{
		"serves": {
			`{"version":"v2","role":"active","worker":{"pid":7,"ready":true}}`,
			0, "ready: nsqueued under supervisor v2 serves\n", "",
		},
		"standby": {
			`{"version":"v2","role":"standby"}`, 0, "ready: supervisor v2 stands by\n", "",
		},
		"starting": {
			`{"version":"v2","role":"active","worker":{"pid":7}}`,
			1, "", "nsqueuectl: not ready: nsqueued (process 7) is starting\n",
		},
		"none": {`{"role":"active"}`, 1, "", "nsqueuectl: not ready: no nsqueued runs\n"},
		"taking": {
			`{"role":"taking","worker":{"pid":7,"ready":true}}`,
			1, "", "nsqueuectl: not ready: the supervisor is taking\n",
		},
		"no role": {
			`{}`, 3, "",
			"nsqueuectl: not ready: nsqueued is not available: its supervisor's answer has no role\n",
		},
		"nothing": {
			``, 3, "", "nsqueuectl: not ready: nsqueued is not available: " +
				"read its supervisor's answer: unexpected end of JSON input\n",
		},
		"hostile": {
			`{"role":"\u001b[31m"}`, 1, "",
			"nsqueuectl: not ready: the supervisor is \\x1b[31m\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := supervisorSays(t, tt.answer)
			// The daemon at the socket has no say.
			nsqueuectl(t.Context(), "/nowhere", "ready", "--runtime-dir", dir).
				want(t, tt.status, tt.stdout, tt.err)
		})
	}
}

func TestReadyJSONSaysWhyNot(t *testing.T) {
	dir := supervisorSays(t, `{"version":"v2","role":"active","restarts":3}`)
	nsqueuectl(t.Context(), "", "ready", "--runtime-dir", dir, "-o", "json").want(t, 1, `{
  "ready": false,
  "reason": "no nsqueued runs",
  "version": "v2",
  "supervisor": {
    "version": "v2",
    "pid": 0,
    "role": "active",
    "restarts": 3,
    "descriptors": 0
  }
}
`, "nsqueuectl: not ready: no nsqueued runs\n")
}
