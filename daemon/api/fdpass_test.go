// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

func TestDescriptors(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	attach := request("POST", attachPath, attachBody)
	collect := request("POST", collectPath, `{"network":"n"}`)
	list := request("GET", attachPath, "")
	body := func(s string) int { return strings.Index(s, "\r\n\r\n") + 4 }
	type part struct {
		data string
		fds  int
	}
	for name, test := range map[string]struct {
		parts []part
		code  api.Code
		open  bool // whether the connection goes on
	}{
		"none":           {[]part{{attach, 0}}, 0, true},
		"one":            {[]part{{attach, 1}}, 0, false},
		"one with body":  {[]part{{attach[:body(attach)], 0}, {attach[body(attach):], 1}}, 0, false},
		"two":            {[]part{{attach, 2}}, api.CodeUnsupportedField, false},
		"as many as fit": {[]part{{attach, 253}}, api.CodeUnsupportedField, false},
		"one and one":    {[]part{{attach[:10], 1}, {attach[10:], 1}}, api.CodeUnsupportedField, false},
		"one, one in body": {
			[]part{{attach[:body(attach)+9], 1}, {attach[body(attach)+9:], 1}},
			api.CodeUnsupportedField, false,
		},
		"with list":    {[]part{{list, 1}}, api.CodeUnsupportedField, false},
		"with collect": {[]part{{collect, 1}}, api.CodeUnsupportedField, false},
		"in collect": {
			[]part{{collect[:body(collect)], 0}, {collect[body(collect):], 1}},
			api.CodeUnsupportedField, false,
		},
		"with a bad path": {[]part{{request("GET", "/nowhere", ""), 1}}, api.CodeUnsupportedField, false},
		"with a bad body": {[]part{{request("POST", attachPath, "{"), 1}}, api.CodeDecoding, false},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(d.Attached())
			noLeak(t, func() {
				c := dial(t, socket)
				for _, p := range test.parts {
					c.send(p.data, p.fds)
				}
				code, msg, open := c.receive()
				if code != test.code || open != test.open {
					t.Errorf("code %d (%s), open %v; want %d, %v", code, msg, open, test.code, test.open)
				}
				if !open {
					c.wantClosed()
				}
				_ = c.Close()
			})
			attached := d.Attached()[before:]
			if name == "none" && (len(attached) != 1 || attached[0].Netns != nil) ||
				strings.HasPrefix(name, "one") && test.code == 0 &&
					(len(attached) != 1 || attached[0].Netns == nil) ||
				test.code != 0 && len(attached) != 0 {
				t.Errorf("attach calls %+v", attached)
			}
		})
	}
}

// One connection may carry many calls, until it carries a descriptor.
func TestDescriptorEndsKeepAlive(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	noLeak(t, func() {
		c := dial(t, socket)
		for range 3 {
			c.send(request("GET", attachPath, ""), 0)
			if code, _, open := c.receive(); code != 0 || !open {
				t.Fatalf("code %d, open %v", code, open)
			}
		}
		c.send(request("POST", attachPath, attachBody), 1)
		if code, _, open := c.receive(); code != 0 || open {
			t.Errorf("code %d, open %v", code, open)
		}
		c.wantClosed()
		_ = c.Close()
	})
}

// openFiles counts the process's descriptors.
func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// noLeak runs f and waits until no more files are open than before.
func noLeak(t testing.TB, f func()) {
	t.Helper()
	before := openFiles(t)
	f()
	deadline := time.After(time.Minute)
	for tick := time.Tick(time.Millisecond); ; {
		after := openFiles(t)
		if after <= before {
			return
		}
		select {
		case <-tick: // the server closes its end after the client has gone
		case <-deadline:
			t.Fatalf("%d files are open, were %d", after, before)
		}
	}
}

func TestNoDescriptorLeak(t *testing.T) {
	d := apitest.Daemon{WatchEnds: true}
	socket := d.Start(t)
	c := api.NewClient(socket)
	netns, err := os.Open(apitest.OwnNetns)
	if err != nil {
		t.Fatal(err)
	}
	defer netns.Close()
	kinds := calls(c)
	delete(kinds, "describe") // there is no attachment to describe
	kinds["attach a netns"] = func(ctx context.Context) error {
		_, err := c.Attach(ctx, testRequest(), netns)
		return err
	}
	kinds["broken off"] = func(context.Context) error {
		raw := dial(t, socket)
		raw.send("POST ", 3)
		return raw.Close()
	}
	for name, call := range kinds {
		noLeak(t, func() {
			for range 200 {
				if err := call(t.Context()); err != nil && name != "watch" {
					t.Fatalf("%s: %v", name, err)
				}
			}
		})
	}
}

// A message with a descriptor may be taken only in part by the kernel.
func TestShortWrites(t *testing.T) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]*net.UnixConn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		c, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns[i] = c.(*net.UnixConn)
	}
	if err := conns[0].SetWriteBuffer(1); err != nil { // the kernel's minimum
		t.Fatal(err)
	}
	netns, err := os.Open(apitest.OwnNetns)
	if err != nil {
		t.Fatal(err)
	}
	defer netns.Close()
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	written := make(chan error, 1)
	go func() {
		n, err := api.NewRightsConn(conns[0], netns).Write(data)
		if err == nil && n != len(data) {
			err = fmt.Errorf("%d bytes written", n)
		}
		written <- errors.Join(err, conns[0].CloseWrite())
	}()
	var got []byte
	received := 0
	for buf, oob := make([]byte, 1<<16), make([]byte, 1024); ; {
		n, oobn, _, _, err := conns[1].ReadMsgUnix(buf, oob)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buf[:n]...)
		received += closeRights(t, oob[:oobn])
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
	if received != 1 || !bytes.Equal(got, data) {
		t.Errorf("%d descriptors and %d bytes arrived", received, len(got))
	}
}

// closeRights closes the descriptors of a control message and counts them.
func closeRights(t *testing.T, oob []byte) int {
	t.Helper()
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			_ = syscall.Close(fd)
			n++
		}
	}
	return n
}

// TestMain makes this binary a client that another user runs.
func TestMain(m *testing.M) {
	list, connect := os.Getenv("NSQUEUE_TEST_LIST"), os.Getenv("NSQUEUE_TEST_CONNECT")
	var err error
	switch {
	case list != "":
		_, err = api.NewClient(list).List(context.Background())
	case connect != "":
		err = connectMany(connect, 1000)
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// The mode of the socket is one lock, the peer's user is another.
func TestOtherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can run a process as another user")
	}
	var d apitest.Daemon
	socket := d.Start(t)
	err := errors.Join(os.Chmod(socket, 0o666), os.Chmod(filepath.Dir(socket), 0o711))
	if err != nil {
		t.Fatal(err)
	}
	for uid, wantOK := range map[uint32]bool{0: true, 65534: false} {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env = []string{"NSQUEUE_TEST_LIST=" + socket}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if _, isExit := errors.AsType[*exec.ExitError](err); err != nil && !isExit {
			t.Fatal(err)
		}
		if (err == nil) != wantOK || !wantOK && !strings.Contains(string(out), "not available") {
			t.Errorf("user %d: %v: %s", uid, err, out)
		}
	}
	if n := len(d.Calls()); n != 1 {
		t.Errorf("%d calls reached the daemon, want 1", n)
	}
}
