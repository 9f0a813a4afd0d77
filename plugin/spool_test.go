// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
	"github.com/nsqueue/nsqueue/internal/boottime"
	"github.com/nsqueue/nsqueue/internal/spool"
)

// spooled returns the entry that the plugin has left for the daemon at the
// socket, nil where there is none.
func spooled(t *testing.T, socket string) *spool.Entry {
	t.Helper()
	if _, err := os.Lstat(spool.Path(socket)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	dir, err := spool.Open(spool.Path(socket))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	keys, strange, err := dir.List()
	if err != nil || len(keys) > 1 || len(strange) > 0 {
		t.Fatalf("spool has %v and %v, %v", keys, strange, err)
	}
	if len(keys) == 0 {
		return nil
	}
	f, err := dir.Read(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	return &f.Entry
}

// fullSocket returns a socket that takes no more connections.
func fullSocket(t *testing.T) string {
	t.Helper()
	path := apitest.SocketPath(t)
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	addr := &syscall.SockaddrUnix{Name: path}
	if err := errors.Join(syscall.Bind(fd, addr), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for {
		c, err := syscall.Socket(syscall.AF_UNIX,
			syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Close(c) })
		err = syscall.Connect(c, addr)
		if errors.Is(err, syscall.EAGAIN) {
			return path
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// allUnreachable are all kinds of sockets without a daemon behind them.
func allUnreachable(t *testing.T) map[string]string {
	t.Helper()
	all, silent := unreachable(t)
	maps.Copy(all, silent)
	all["full"] = fullSocket(t)
	return all
}

func TestDelIsSpooled(t *testing.T) {
	for name, socket := range allUnreachable(t) {
		t.Run(name, func(t *testing.T) {
			before := boottime.Now()
			o := invocation{command: "DEL", stdin: conf(socket), limits: shortLimits()}.run()
			o.wantSuccess(t, "")
			got := spooled(t, socket)
			if got == nil {
				t.Fatalf("nothing is spooled: %s", o.stderr)
			}
			// The call counts from its beginning, not from the end of waiting.
			latest := boottime.Now()
			if name == "silent" || name == "full" {
				latest -= shortLimits().del
			}
			if got.Called < before || got.Called > latest {
				t.Errorf("called at %v, want between %v and %v", got.Called, before, latest)
			}
			want := &spool.Entry{
				Version: 1, Verb: spool.Del, Key: api.Key{ContainerID: "c0ffee", Ifname: "eth0"},
				Called: got.Called, BootID: got.BootID, Time: got.Time,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("entry (-want +got):\n%s", diff)
			}
			if !strings.Contains(o.stderr, "DEL spooled") {
				t.Errorf("stderr %q does not say so", o.stderr)
			}
		})
	}
}

func TestAddIsSpooledUnderIgnore(t *testing.T) {
	netns := apitest.OtherNetns(t)
	info, err := os.Stat(netns)
	if err != nil {
		t.Fatal(err)
	}
	id := info.Sys().(*syscall.Stat_t)
	for name, socket := range allUnreachable(t) {
		t.Run(name, func(t *testing.T) {
			o := invocation{
				command: "ADD", limits: shortLimits(),
				stdin: conf(socket, prevResult, `"runtimeConfig":{`+
					`"io.kubernetes.cri.pod-annotations":{"nsqueue.io/profile":"<s>","other":""}}`),
				env: map[string]string{
					"CNI_NETNS": netns,
					"CNI_ARGS":  "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web" + strings.Repeat(";x", 1000),
				},
			}.run()
			o.wantSuccess(t, `{"cniVersion":"1.1.0"}`)
			got := spooled(t, socket)
			if got == nil {
				t.Fatalf("nothing is spooled: %s", o.stderr)
			}
			want := &spool.Entry{
				Version: 1, Verb: spool.Add, Key: api.Key{ContainerID: "c0ffee", Ifname: "eth0"},
				Called: got.Called, BootID: got.BootID, Time: got.Time,
				Attach: &api.AttachRequest{
					Key:     api.Key{ContainerID: "c0ffee", Ifname: "eth0"},
					Network: "cbr0", Origin: api.OriginCNI, NetnsPath: netns,
					Pod:           api.Pod{Namespace: "default", Name: "web"},
					FailurePolicy: api.Ignore, Warnings: got.Attach.Warnings,
					Annotations: map[string]string{"nsqueue.io/profile": "<s>"},
				},
				Netns: &spool.Netns{Dev: id.Dev, Ino: id.Ino},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("entry (-want +got):\n%s", diff)
			}
			if n := len(got.Attach.Warnings); n != 8 || !strings.HasPrefix(got.Attach.Warnings[7], "and ") {
				t.Errorf("%q, want 8 warnings that say how many more there are", got.Attach.Warnings)
			}
			invocation{command: "DEL", stdin: conf(socket), limits: shortLimits()}.run().
				wantSuccess(t, "")
			if last := spooled(t, socket); last.Verb != spool.Del || last.Called <= got.Called {
				t.Errorf("after ADD and DEL: %+v", last)
			}
		})
	}
}

// Under Fail the runtime knows, and no other command is worth a repetition.
func TestNothingElseIsSpooled(t *testing.T) {
	netns := apitest.OtherNetns(t)
	for name, socket := range allUnreachable(t) {
		for _, policy := range []string{"Ignore", "Fail"} {
			for _, command := range []string{"ADD", "CHECK", "GC", "STATUS", "VERSION"} {
				if command == "ADD" && policy == "Ignore" {
					continue
				}
				invocation{
					command: command, limits: shortLimits(),
					stdin: conf(socket, prevResult, `"cni.dev/valid-attachments":[]`,
						`"failurePolicy":"`+policy+`"`),
					env: map[string]string{"CNI_NETNS": netns},
				}.run()
				if got := spooled(t, socket); got != nil {
					t.Errorf("%s under %s, daemon %s: %+v", command, policy, name, got)
				}
			}
		}
	}
}

// A daemon that answers has to be believed, except that its trouble may pass.
func TestSpoolByAnswer(t *testing.T) {
	netns := apitest.OtherNetns(t)
	for _, code := range []api.Code{0, 2, 7, 8, 11, 50, 100, 102, 999} {
		d := apitest.Daemon{Err: func(string) error {
			if code == 0 {
				return nil
			}
			return api.Errorf(code, "no")
		}}
		socket := d.Start(t)
		for _, command := range []string{"ADD", "DEL"} {
			invocation{
				command: command, stdin: conf(socket, prevResult),
				env: map[string]string{"CNI_NETNS": netns},
			}.run()
			got := spooled(t, socket)
			if want := code == api.CodeTryAgainLater; (got != nil) != want ||
				want && string(got.Verb) != command {
				t.Errorf("%s with answer %d: spooled %+v, want an entry: %t", command, code, got, want)
			}
		}
	}
}

// Where not even the spool works, the runtime is still not held up.
func TestSpoolFails(t *testing.T) {
	netns := apitest.OtherNetns(t)
	for _, command := range []string{"ADD", "DEL"} {
		socket := apitest.SocketPath(t)
		if err := os.WriteFile(filepath.Join(filepath.Dir(socket), "spool"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		o := invocation{
			command: command, stdin: conf(socket, prevResult), env: map[string]string{"CNI_NETNS": netns},
		}.run()
		want := ""
		if command == "ADD" {
			want = `{"cniVersion":"1.1.0"}`
		}
		o.wantSuccess(t, want)
		if !strings.Contains(o.stderr, "level=ERROR msg=\""+command+" not stored") {
			t.Errorf("%s: %s", command, o.stderr)
		}
	}
}
