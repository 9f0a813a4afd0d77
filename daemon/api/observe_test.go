// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

func TestObserversLook(t *testing.T) {
	d := apitest.Daemon{
		Attachments: []api.Attachment{{Key: testKey()}},
		Described:   []api.Description{{Attachment: api.Attachment{Key: testKey()}, Problem: "p"}},
		Info:        api.Status{PID: 7},
		Happened:    []api.Event{{Kind: api.EventRepair}},
		Packets:     []api.PacketEvent{{Packet: 1}},
		WatchEnds:   true,
	}
	c := api.NewClient(d.StartObservers(t, -1))
	ctx := t.Context()
	list, err := c.List(ctx)
	if err != nil || len(list.Attachments) != 1 {
		t.Errorf("list: %v, %v", list, err)
	}
	status, err := c.Status(ctx)
	if err != nil || status.PID != 7 {
		t.Errorf("status: %v, %v", status, err)
	}
	described, err := c.Describe(ctx, testKey())
	if err != nil || described.Problem != "p" || described.Events == nil ||
		described.QueueStates == nil {
		t.Errorf("describe: %+v, %v", described, err)
	}
	events, err := c.Events(ctx)
	if err != nil || len(events) != 1 {
		t.Errorf("events: %v, %v", events, err)
	}
	n := 0
	err = c.Watch(ctx, api.WatchRequest{}, nil, func([]api.PacketEvent) error { n++; return nil })
	if !errors.Is(err, api.ErrUnavailable) || n != 1 {
		t.Errorf("watch: %d packets, %v", n, err)
	}
}

// What changes something, and what is unknown, is refused in clear words
// before the daemon hears of it.
func TestObserversChangeNothing(t *testing.T) {
	var d apitest.Daemon
	socket := d.StartObservers(t, -1)
	c := api.NewClient(socket)
	refused := calls(c)
	for _, name := range []string{"list", "describe", "status", "watch"} {
		delete(refused, name)
	}
	refused["log level"] = func(ctx context.Context) error {
		_, err := c.SetLogLevel(ctx, api.LogDebug)
		return err
	}
	for name, call := range refused {
		err := call(t.Context())
		if api.CodeOf(err) != api.CodeReadOnly || !strings.Contains(err.Error(), "observers' socket") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, line := range [][2]string{
		{"GET", "/"},
		{"GET", "/v1/nothing"},
		{"POST", "/metrics"},
		{"DELETE", "/v1/status"},
		{"PUT", "/v1/watch"},
		{"OPTIONS", "/v1/attachments"},
		{"GET", "/v1/attachments/a/b/check"},
	} {
		r := dial(t, socket)
		r.send(request(line[0], line[1], ""), 0)
		if code, msg, _ := r.receive(); code != api.CodeReadOnly {
			t.Errorf("%v: code %d, %s", line, code, msg)
		}
	}
	withFile := dial(t, socket)
	withFile.send(request("GET", "/v1/status", ""), 1)
	if code, msg, _ := withFile.receive(); code != api.CodeUnsupportedField {
		t.Errorf("a descriptor: code %d, %s", code, msg)
	}
	if got := d.Calls(); got != nil {
		t.Errorf("calls %v", got)
	}
}

func TestMetrics(t *testing.T) {
	d := apitest.Daemon{Scraped: "nsqueue_packets_total 1\n"}
	for _, socket := range []string{d.Start(t), d.StartObservers(t, -1)} {
		c := dial(t, socket)
		c.send(request("GET", "/metrics", ""), 0)
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if err != nil || string(text) != d.Scraped {
			t.Errorf("%s: %q, %v", socket, text, err)
		}
	}
}

// serveMetrics serves d by TCP until the test ends.
func serveMetrics(t *testing.T, d api.Observed) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- api.ServeMetrics(ctx, l, d, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

func TestMetricsByTCP(t *testing.T) {
	d := apitest.Daemon{Scraped: "nsqueue_packets_total 1\n"}
	url := serveMetrics(t, &d)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, want := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/metrics", 200},
		{"POST", "/metrics", 405},
		{"GET", "/v1/status", 404},
		{"GET", "/v1/attachments", 404},
		{"DELETE", "/v1/attachments", 404},
		{"GET", "/", 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), want.method, url+want.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != want.status {
			t.Errorf("%s %s: %s, %v", want.method, want.path, resp.Status, err)
		}
		if want.status == 200 && string(text) != d.Scraped {
			t.Errorf("scraped %q", text)
		}
	}
	if diff := cmp.Diff([]string{"metrics"}, d.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// Connections that bring no request keep no client from scraping by TCP either.
func TestIdleConnectionsByTCP(t *testing.T) {
	d := apitest.Daemon{Scraped: "x 1\n"}
	url := serveMetrics(t, &d)
	for range 4 * api.MaxObserverConns() {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s, %v", resp.Status, err)
	}
}

// slowScrape is a daemon whose scrapes do not end.
type slowScrape struct {
	apitest.Daemon
	began, end chan struct{}
}

func (d *slowScrape) Metrics(http.ResponseWriter, *http.Request) {
	d.began <- struct{}{}
	<-d.end
}

// Observers that fill their socket take nothing from the API's.
func TestObserversStarveNobody(t *testing.T) {
	d := &slowScrape{began: make(chan struct{}, api.MaxObserverConns()), end: make(chan struct{})}
	defer close(d.end)
	l, err := api.Listen(apitest.SocketPath(t))
	if err != nil {
		t.Fatal(err)
	}
	socket := l.Addr().String()
	looking, err := api.ListenObservers(api.ObserverSocket(socket), -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	log := slog.New(slog.DiscardHandler)
	go func() { ended <- api.Serve(ctx, l, d, log) }()
	go func() { ended <- api.ServeObservers(ctx, looking, -1, d, log) }()
	for range 2 * api.MaxObserverConns() {
		c, err := net.Dial("unix", looking.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, request("GET", "/metrics", "")); err != nil {
			t.Fatal(err)
		}
	}
	<-d.began
	for range 20 {
		honest(t, socket)
		if err := api.NewClient(socket).Detach(ctx, testKey()); err != nil {
			t.Error(err)
		}
	}
	// Nor do they keep the daemon from stopping, though their scrapes do not end.
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestListenObserversModes(t *testing.T) {
	for group, want := range map[int]fs.FileMode{-1: 0o600, os.Getegid(): 0o660} {
		path := api.ObserverSocket(apitest.SocketPath(t))
		for range 2 { // a daemon that died has left the first one
			l, err := api.ListenObservers(path, group)
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			defer l.Close()
			wantMode(t, path, fs.ModeSocket|want)
			info, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if gid := int(info.Sys().(*syscall.Stat_t).Gid); gid != os.Getegid() {
				t.Errorf("group %d, want %d", gid, os.Getegid())
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// The socket is open to its group, and to no other user.
func TestObserversGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can run a process as another user")
	}
	const group = 65500
	var d apitest.Daemon
	socket := d.StartObservers(t, group)
	if err := os.Chmod(filepath.Dir(socket), 0o711); err != nil {
		t.Fatal(err)
	}
	list := func(credential *syscall.Credential) (string, bool) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env = []string{"NSQUEUE_TEST_LIST=" + socket}
		cmd.Dir = "/"
		credential.Uid = 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
		out, err := cmd.CombinedOutput()
		if _, isExit := errors.AsType[*exec.ExitError](err); err != nil && !isExit {
			t.Fatal(err)
		}
		return string(out), err == nil
	}
	outsider := func() *syscall.Credential {
		return &syscall.Credential{Gid: group + 1, Groups: []uint32{1, 2, group + 2}}
	}
	for name, member := range map[string]*syscall.Credential{
		"first": {Gid: group}, "supplementary": {Gid: group + 1, Groups: []uint32{1, group, 3}},
	} {
		if out, ok := list(member); !ok {
			t.Errorf("%s group: %s", name, out)
		}
	}
	if out, ok := list(outsider()); ok || !strings.Contains(out, "permission denied") {
		t.Errorf("another group: %v: %s", ok, out)
	}
	// Who opens the file to all has not opened the daemon.
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	if out, ok := list(outsider()); ok || strings.Contains(out, "permission denied") {
		t.Errorf("another group, open file: %v: %s", ok, out)
	}
	if diff := cmp.Diff([]string{"list", "list"}, d.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}
