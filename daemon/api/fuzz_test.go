// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// logBuffer keeps what the server logs: net/http catches the handlers' panics.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// FuzzServer feeds the server with anything, and up to two descriptors. It must
// end the connection, and neither panic nor keep a descriptor.
func FuzzServer(f *testing.F) {
	var logged logBuffer
	d := apitest.Daemon{WatchEnds: true}
	socket := apitest.SocketPath(f)
	l, err := api.Listen(socket)
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- api.Serve(ctx, l, &d, slog.New(slog.NewTextHandler(&logged, nil)))
	}()
	f.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			f.Error(err)
		}
	})
	key := "/v1/attachments/c0ffee/eth0"
	for _, seed := range []string{
		"", "\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		request("POST", attachPath, attachBody), request("GET", attachPath, ""),
		request("DELETE", attachPath, ""), request("DELETE", key, ""),
		request("GET", key+"/check", ""), request("GET", "/v1/status", ""),
		request("POST", adoptPath, `{"dryRun":true}`),
		request("POST", "/v1/upgrade", ""),
		request("GET", "/v1/watch", ""), request("GET", "/v1/watch?port=80&pod=a", ""), request("POST", collectPath, `{"network":"n"}`),
		request("GET", attachPath, "") + request("POST", attachPath, attachBody),
		"POST /v1/attachments HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"1\r\n{\r\n0\r\n\r\n",
		"POST /v1/attachments HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" +
			"Content-Length: 9\r\n\r\n",
	} {
		for fds := range byte(3) {
			f.Add(seed, fds)
		}
	}
	f.Fuzz(func(t *testing.T, data string, fds byte) {
		noLeak(t, func() {
			c := dial(t, socket)
			if data != "" {
				// The server may have heard enough before the end.
				_ = c.trySend(data, int(fds%3))
			}
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c.r)
			_ = c.Close()
		})
		if s := logged.String(); strings.Contains(s, "panic") {
			t.Fatal(s)
		}
	})
}
