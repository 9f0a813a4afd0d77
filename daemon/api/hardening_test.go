// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// heapGrowth returns how much the heap has grown at most while f ran, garbage
// that is not collected yet included.
func heapGrowth(t *testing.T, f func()) (growth int64) {
	t.Helper()
	heap := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	runtime.GC()
	before := heap()
	done := make(chan struct{})
	var observer sync.WaitGroup
	observer.Go(func() {
		for tick := time.Tick(2 * time.Millisecond); ; {
			growth = max(growth, heap()-before)
			select {
			case <-tick:
			case <-done:
				return
			}
		}
	})
	f()
	close(done)
	observer.Wait()
	t.Logf("heap grew by %d KiB", growth>>10)
	return growth
}

// connect opens n connections that cost the test as little as possible.
func connect(t *testing.T, socket string, n int) []*net.UnixConn {
	t.Helper()
	conns := make([]*net.UnixConn, n)
	for i := range conns {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		conns[i] = c
	}
	return conns
}

// honest makes a call that must be answered.
func honest(t *testing.T, socket string) {
	t.Helper()
	if err := status(t, socket); err != nil {
		t.Fatalf("honest call: %v", err)
	}
}

func status(t *testing.T, socket string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := api.NewClient(socket).Status(ctx)
	return err
}

// honestInTime is [honest] where clients have a short time for their requests.
func honestInTime(t *testing.T, socket string) {
	t.Helper()
	patiently(t, "honest call", func() error { return status(t, socket) })
}

func TestIdleConnections(t *testing.T) {
	const idle = 1000
	var d apitest.Daemon
	socket := d.Start(t)
	// Of two kinds: those that have not said anything, and those that are
	// between two calls.
	for _, said := range []string{"", request("GET", "/v1/status", "")} {
		noLeak(t, func() {
			before := openFiles(t)
			var conns []*net.UnixConn
			growth := heapGrowth(t, func() {
				conns = connect(t, socket, idle)
				for _, c := range conns {
					// Those in front may have given way by now.
					_, _ = io.WriteString(c, said)
				}
				for range 20 {
					honest(t, socket)
				}
			})
			if growth > 32<<20 {
				t.Errorf("the heap grew by %d bytes", growth)
			}
			// One more is open for the moment in which another connection gives way.
			patiently(t, "bounded connections", func() error {
				if served := openFiles(t) - before - idle; served > api.MaxConns() {
					return fmt.Errorf("the server has %d descriptors open, want at most %d",
						served, api.MaxConns())
				}
				return nil
			})
			for _, c := range conns {
				_ = c.Close()
			}
		})
	}
}

// Honest calls are many at times, and none is given up for another.
func TestStormOfCalls(t *testing.T) {
	const calls = 1000
	var d apitest.Daemon
	socket, _, _ := serve(t, &d, time.Minute)
	noLeak(t, func() {
		errs := make(chan error, calls)
		for range calls {
			go func() { errs <- api.NewClient(socket).Detach(t.Context(), testKey()) }()
		}
		for range calls {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	})
	if n := len(d.Calls()); n != calls {
		t.Errorf("%d calls arrived, want %d", n, calls)
	}
}

// One byte at a time is no way to keep a connection.
func TestSlowRequests(t *testing.T) {
	const limit = 100 * time.Millisecond
	var d apitest.Daemon
	socket, _, _ := serve(t, &d, limit)
	data := request("POST", attachPath, attachBody)
	var all sync.WaitGroup
	for _, c := range connect(t, socket, 20) {
		all.Go(func() {
			for i, tick := 0, time.Tick(limit/20); i < len(data); i++ {
				if _, err := c.Write([]byte{data[i]}); err != nil {
					return
				}
				<-tick
			}
			t.Error("the server has waited for all of it")
		})
	}
	honestInTime(t, socket)
	all.Wait()
	honestInTime(t, socket)
	if got := d.Attached(); got != nil {
		t.Errorf("attach calls %v", got)
	}
}

func TestHugeRequests(t *testing.T) {
	const clients, size = 64, 4 << 20
	var d apitest.Daemon
	socket := d.Start(t)
	long := strings.Repeat("a", size)
	header := "GET /v1/status HTTP/1.1\r\nX-A: "
	requests := [][]byte{
		[]byte(request("POST", attachPath, `{"containerID":"`+long+`"}`)),
		[]byte(request("POST", collectPath, `{"network":"`+long+`"}`)),
		[]byte(request("POST", "/nowhere", long)),
		[]byte(header + long), []byte(header + strings.Repeat("a\r\nX-A:", size/8)),
	}
	growth := heapGrowth(t, func() {
		var all sync.WaitGroup
		for i, c := range connect(t, socket, clients) {
			all.Go(func() {
				// The server has heard enough long before the end.
				if _, err := c.Write(requests[i%len(requests)]); err == nil {
					t.Error("all of it was taken")
				}
			})
		}
		honest(t, socket)
		all.Wait()
		honest(t, socket)
	})
	if growth > 64<<20 {
		t.Errorf("the heap grew by %d bytes", growth)
	}
	for _, call := range d.Calls() {
		if call != "status" {
			t.Errorf("call %q", call)
		}
	}
}

// Clients that do not take their answers keep neither others from theirs nor
// many answers in memory.
func TestSlowReaders(t *testing.T) {
	const clients, attachments = 100, 5000 // 2 MiB of JSON each
	var d apitest.Daemon
	for range attachments {
		d.Attachments = append(d.Attachments, api.Attachment{
			Key: testKey(), Pod: api.Pod{Name: strings.Repeat("x", 100)},
		})
	}
	socket, _, _ := serve(t, &d, 500*time.Millisecond)
	growth := heapGrowth(t, func() {
		noLeak(t, func() {
			conns := connect(t, socket, clients)
			for _, c := range conns {
				if _, err := io.WriteString(c, request("GET", attachPath, "")); err != nil {
					t.Error(err)
				}
			}
			for range 20 {
				honestInTime(t, socket)
			}
			for _, c := range conns {
				_ = c.Close()
			}
		})
	})
	if growth > 128<<20 {
		t.Errorf("the heap grew by %d bytes", growth)
	}
	// Clients that take it get all of it, within the limit that is not for tests.
	l, err := api.NewClient(d.Start(t)).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Attachments) != attachments {
		t.Errorf("%d attachments", len(l.Attachments))
	}
}

func TestWatchesAreBounded(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	for range api.MaxWatches() {
		c := dial(t, socket)
		c.send(request("GET", "/v1/watch", ""), 0)
		if line, err := c.r.ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			t.Fatalf("%q, %v", line, err)
		}
	}
	err := api.NewClient(socket).Watch(t.Context(), api.WatchRequest{}, nil, nil)
	if api.CodeOf(err) != api.CodeTryAgainLater {
		t.Errorf("one more watch: %v", err)
	}
	honest(t, socket)
}

// connectMany is what the other user's process does.
func connectMany(socket string, n int) error {
	var conns []net.Conn
	for range n {
		c, err := net.Dial("unix", socket)
		if err != nil {
			return err
		}
		conns = append(conns, c)
	}
	for _, c := range conns {
		_, err := io.Copy(io.Discard, c)
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			return err
		}
		_ = c.Close()
	}
	return nil
}

// Should the mode of the socket ever let others in, they are refused without
// taking room from those who may call.
func TestOtherUserTakesNoRoom(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can run a process as another user")
	}
	var log logBuffer
	var d apitest.Daemon
	socket := apitest.SocketPath(t)
	l, err := api.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- api.Serve(ctx, l, &d, slog.New(slog.NewTextHandler(&log, nil))) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	err = errors.Join(os.Chmod(socket, 0o666), os.Chmod(filepath.Dir(socket), 0o711))
	if err != nil {
		t.Fatal(err)
	}
	noLeak(t, func() {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env = []string{"NSQUEUE_TEST_CONNECT=" + socket}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			honest(t, socket)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, out.String())
		}
	})
	if n := strings.Count(log.String(), "connection refused"); n != 1 {
		t.Errorf("%d lines in the log, want 1: %s", n, log.String())
	}
}

// abandonedBackend asks during a call whether it is abandoned.
type abandonedBackend struct {
	apitest.Daemon
	called chan struct{}
	ask    chan struct{}
	answer chan bool
}

func (b *abandonedBackend) Detach(ctx context.Context, _ api.DetachRequest) error {
	close(b.called)
	<-b.ask
	b.answer <- api.Abandoned(ctx)
	return nil
}

func TestAbandoned(t *testing.T) {
	for name, test := range map[string]struct {
		leave func(*rawConn) error
		want  bool
	}{
		"waiting":     {func(*rawConn) error { return nil }, false},
		"half closed": {func(c *rawConn) error { return c.CloseWrite() }, false},
		"closed":      {func(c *rawConn) error { return c.Close() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := abandonedBackend{
				called: make(chan struct{}), ask: make(chan struct{}), answer: make(chan bool, 1),
			}
			socket, _, _ := serve(t, &b, time.Minute)
			c := dial(t, socket)
			c.send(request("DELETE", attachPath+"/c0ffee/eth0", ""), 0)
			<-b.called
			if err := test.leave(c); err != nil {
				t.Fatal(err)
			}
			close(b.ask) // at once: the answer must not wait for the server to notice
			if got := <-b.answer; got != test.want {
				t.Errorf("abandoned: %t, want %t", got, test.want)
			}
		})
	}
	if api.Abandoned(t.Context()) {
		t.Error("a context without a call is abandoned")
	}
}
