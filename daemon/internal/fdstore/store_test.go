// SPDX-License-Identifier: Apache-2.0

package fdstore

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// variables is an environment of the tests' own.
type variables map[string]string

func (v variables) environment() Environment {
	return Environment{
		Getenv:   func(name string) string { return v[name] },
		Unsetenv: func(name string) error { delete(v, name); return nil },
		PID:      100, Getppid: func() int { return 99 },
	}
}

// receiver is a supervisor's socket.
type receiver struct {
	*net.UnixConn
}

// listen opens a supervisor's socket at a path, or at an abstract address.
func listen(t *testing.T, address string) *receiver {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &receiver{conn}
}

// next returns the next message and how many descriptors came with it.
func (r *receiver) next(t *testing.T) (string, int) {
	t.Helper()
	if err := r.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	b, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*maxRights))
	n, oobn, flags, _, err := r.ReadMsgUnix(b, oob)
	if err != nil || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		t.Fatalf("receive: %v, flags %#x", err, flags)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			if err := unix.Close(fd); err != nil {
				t.Fatal(err)
			}
		}
		count += len(fds)
	}
	return string(b[:n]), count
}

func (r *receiver) want(t *testing.T, message string, descriptors int) {
	t.Helper()
	if got, n := r.next(t); got != message || n != descriptors {
		t.Errorf("received %q with %d descriptors, want %q with %d", got, n, message, descriptors)
	}
}

func address(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nsq") //nolint:usetesting // its paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "notify")
}

func open(t *testing.T, v variables) *Store {
	t.Helper()
	s, err := FromEnvironment(v.environment())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// files returns n files that are open until the test ends.
func files(t *testing.T, n int) []*os.File {
	t.Helper()
	list := make([]*os.File, n)
	for i := range list {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		list[i] = f
	}
	return list
}

var queueName = Name{Kind: Queue, Cookie: 137, Strict: true} //nolint:gochecknoglobals // a constant

func TestNotifications(t *testing.T) {
	for _, address := range []string{address(t), fmt.Sprintf("@nsqueue-test-%d", os.Getpid())} {
		r := listen(t, address)
		v := variables{EnvNotifySocket: address, EnvWatchdog: "1500000", "HOME": "/root"}
		s := open(t, v)
		if diff := slices.Collect(maps.Keys(v)); !slices.Equal(diff, []string{"HOME"}) {
			t.Errorf("variables %v are left, want HOME alone", diff)
		}
		if s.Keeps() || s.Watchdog() != 1500*time.Millisecond ||
			s.Supervisor() != (Supervisor{Kind: Systemd, PID: 99}) {
			t.Errorf("keeps %v, watchdog %v, supervisor %+v", s.Keeps(), s.Watchdog(), s.Supervisor())
		}
		for _, tt := range []struct {
			send func() error
			want string
		}{
			{func() error { return s.Ready("2 pods\nMAINPID=1") }, "READY=1\nSTATUS=2 pods MAINPID=1"},
			{func() error { return s.Status("3 pods") }, "STATUS=3 pods"},
			{s.Alive, "WATCHDOG=1"},
			{s.Stopping, "STOPPING=1"},
		} {
			if err := tt.send(); err != nil {
				t.Fatal(err)
			}
			r.want(t, tt.want, 0)
		}
		// There is no store: nothing of this is sent.
		if err := errors.Join(s.Put(queueName, files(t, 1)...), s.Remove(queueName), s.Alive()); err != nil {
			t.Fatal(err)
		}
		r.want(t, "WATCHDOG=1", 0)
	}
}

func TestPutAndRemove(t *testing.T) {
	where := address(t)
	r := listen(t, where)
	s := open(t, variables{
		EnvNotifySocket: where, EnvCapacity: "300", EnvSupervisor: "99", EnvRestarts: "7",
	})
	if !s.Keeps() || s.Supervisor() != (Supervisor{Kind: Supervise, PID: 99, Restarts: 7}) {
		t.Errorf("keeps %v, supervisor %+v", s.Keeps(), s.Supervisor())
	}
	const store = "FDSTORE=1\nFDNAME=q3tf\nFDPOLL=0"
	all := files(t, 300)
	if err := s.Put(queueName, all...); err != nil {
		t.Fatal(err)
	}
	r.want(t, store, 253)
	r.want(t, store, 47)

	err := s.Put(Name{Kind: Table, Cookie: 137}, all[0])
	if err == nil || !strings.Contains(err.Error(), "FileDescriptorStoreMax") {
		t.Errorf("one more: %v, want an error that names the setting", err)
	}
	if err := s.Remove(queueName); err != nil {
		t.Fatal(err)
	}
	r.want(t, "FDSTOREREMOVE=1\nFDNAME=q3tf", 0)
	if err := s.Put(queueName, all[0]); err != nil {
		t.Fatalf("put into the store that was emptied: %v", err)
	}
	r.want(t, store, 1)
	if err := all[0].Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(queueName, all[0]); err == nil {
		t.Error("put a closed file")
	}
}

// systemd 252 cannot start a unit any more whose names are longer together.
func TestNamesAreBounded(t *testing.T) {
	where := address(t)
	listen(t, where)
	s := open(t, variables{EnvNotifySocket: where, EnvCapacity: "100000"})
	long := Name{Kind: Queue, Cookie: math.MaxUint64}
	perName := len(long.String()) + 1
	s.total, s.length = MaxNames/perName, MaxNames/perName*perName // as if so many were stored
	err := s.Put(long, files(t, 1)...)
	if err == nil || !strings.Contains(err.Error(), "names") {
		t.Errorf("one more: %v, want an error about the names", err)
	}
	s.length -= perName
	if err := s.Put(long, files(t, 1)...); err != nil {
		t.Error(err)
	}
}

// The worker of a supervisor that was killed has a store no longer.
func TestSupervisorDies(t *testing.T) {
	where := address(t)
	r := listen(t, where)
	parent := 99
	env := variables{
		EnvNotifySocket: where, EnvCapacity: "300", EnvSupervisor: "99",
	}.environment()
	env.Getppid = func() int { return parent }
	s, err := FromEnvironment(env)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	parent = 1
	if s.Keeps() {
		t.Error("keeps descriptors without a supervisor")
	}
	if err := errors.Join(s.Put(queueName, files(t, 1)...), s.Alive()); err != nil {
		t.Fatal(err)
	}
	r.want(t, "WATCHDOG=1", 0)
}

func TestWithoutSupervisor(t *testing.T) {
	s := open(t, variables{EnvCapacity: "10", EnvWatchdog: "1000", EnvSupervisor: "99"})
	if s.Keeps() || s.Watchdog() != 0 || s.Supervisor() != (Supervisor{Kind: None}) ||
		len(s.Inherited()) != 0 {
		t.Errorf("keeps %v, watchdog %v, supervisor %+v, inherited %v",
			s.Keeps(), s.Watchdog(), s.Supervisor(), s.Inherited())
	}
	if err := errors.Join(s.Put(queueName, files(t, 1)...), s.Remove(queueName), s.Ready(""),
		s.Status(""), s.Alive(), s.Stopping()); err != nil {
		t.Error(err)
	}
}

func TestNotForThisProcess(t *testing.T) {
	where := address(t)
	listen(t, where)
	v := variables{
		EnvNotifySocket: where, EnvListenPID: "99", EnvListenFDs: "2", EnvListenNames: "q1i:q2i",
		EnvWatchdog: "1000", EnvWatchdogPID: "99",
	}
	s := open(t, v)
	if len(s.Inherited()) != 0 || s.Watchdog() != 0 {
		t.Errorf("inherited %v, watchdog %v, want nothing", s.Inherited(), s.Watchdog())
	}
	if len(v) != 0 {
		t.Errorf("variables %v are left", v)
	}
}

func TestBadEnvironment(t *testing.T) {
	where := address(t)
	listen(t, where)
	for name, tt := range map[string]struct {
		v     variables
		names string
	}{
		"count":         {variables{EnvListenPID: "100", EnvListenFDs: "x"}, EnvListenFDs},
		"huge count":    {variables{EnvListenPID: "100", EnvListenFDs: "99999999999"}, EnvListenFDs},
		"too few names": {variables{EnvListenPID: "100", EnvListenFDs: "2", EnvListenNames: "a"}, EnvListenNames},
		"capacity":      {variables{EnvCapacity: "-1"}, EnvCapacity},
		"watchdog":      {variables{EnvWatchdog: "1s"}, EnvWatchdog},
		"supervisor":    {variables{EnvSupervisor: "98"}, EnvSupervisor},
		"restarts":      {variables{EnvSupervisor: "99", EnvRestarts: "many"}, EnvRestarts},
		"vsock":         {variables{EnvNotifySocket: "vsock:2:1"}, EnvNotifySocket},
		"no listener":   {variables{EnvNotifySocket: where + "2"}, where + "2"},
	} {
		if tt.v[EnvNotifySocket] == "" {
			tt.v[EnvNotifySocket] = where
		}
		_, err := FromEnvironment(tt.v.environment())
		if err == nil || !strings.Contains(err.Error(), tt.names) {
			t.Errorf("%s: %v, want an error that names %s", name, err, tt.names)
		}
		if len(tt.v) != 0 {
			t.Errorf("%s: variables %v are left", name, tt.v)
		}
	}
}

// A supervisor that has stopped reading must not hold up an attach call.
func TestSendToAHungSupervisor(t *testing.T) {
	where := address(t)
	r := listen(t, where)
	s := open(t, variables{EnvNotifySocket: where, EnvCapacity: "8192"})
	s.notify.timeout = 50 * time.Millisecond
	file := files(t, 1)
	sent := 0
	var err error
	for ; err == nil && sent < 5000; sent++ {
		err = s.Put(queueName, file...)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("after %d messages: %v, want a time-out", sent, err)
	}
	// It reads again, and what was sent is there: the failed one is not.
	for range sent - 1 {
		r.want(t, "FDSTORE=1\nFDNAME=q3tf\nFDPOLL=0", 1)
	}
	if err := s.Alive(); err != nil {
		t.Fatal(err)
	}
	r.want(t, "WATCHDOG=1", 0)
}

// systemd opens its socket anew where it was re-executed without it.
func TestSupervisorOpensItsSocketAnew(t *testing.T) {
	where := address(t)
	r := listen(t, where)
	s := open(t, variables{EnvNotifySocket: where})
	if err := errors.Join(r.Close(), os.Remove(where)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Alive(); err == nil {
			t.Fatal("sent without a supervisor")
		}
	}
	r = listen(t, where)
	if err := s.Alive(); err != nil {
		t.Fatal(err)
	}
	r.want(t, "WATCHDOG=1", 0)
}
