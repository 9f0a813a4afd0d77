// SPDX-License-Identifier: Apache-2.0

package fdcontrol_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/nsqueue/nsqueue/internal/fdcontrol"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestDo(t *testing.T) {
	f, err := os.Open(os.DevNull)
	nstest.Must(t, err)
	want := errors.New("of the caller")
	called := false
	err = fdcontrol.Do(f, func(fd int) error {
		called = true
		if fd < 0 {
			t.Errorf("descriptor %d", fd)
		}
		return want
	})
	if !called || !errors.Is(err, want) {
		t.Errorf("called: %t, error %v, want %v", called, err, want)
	}
	nstest.Must(t, f.Close())
	err = fdcontrol.Do(f, func(int) error {
		t.Error("called with a closed file")
		return nil
	})
	if err == nil {
		t.Error("no error for a closed file")
	}
}

func TestDuplicate(t *testing.T) {
	r, w, err := os.Pipe()
	nstest.Must(t, err)
	defer r.Close()
	duplicate, err := fdcontrol.Duplicate(w, "another")
	nstest.Must(t, err)
	if duplicate.Name() != "another" {
		t.Errorf("name %q", duplicate.Name())
	}
	nstest.Must(t, fdcontrol.Do(duplicate, func(fd int) error {
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
		if errno != 0 || flags&syscall.FD_CLOEXEC == 0 {
			t.Errorf("descriptor flags %#x (%v), want FD_CLOEXEC", flags, errno)
		}
		return nil
	}))
	nstest.Must(t, w.Close())
	_, err = duplicate.WriteString("still open")
	nstest.Must(t, err)
	nstest.Must(t, duplicate.Close())
	if got, err := io.ReadAll(r); string(got) != "still open" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := fdcontrol.Duplicate(w, ""); err == nil {
		t.Error("duplicated a closed file")
	}
}

func TestPeer(t *testing.T) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s")})
	nstest.Must(t, err)
	defer l.Close()
	client, err := net.Dial("unix", l.Addr().String())
	nstest.Must(t, err)
	defer client.Close()
	server, err := l.AcceptUnix()
	nstest.Must(t, err)
	for name, c := range map[string]syscall.Conn{"client": client.(*net.UnixConn), "server": server} {
		peer, err := fdcontrol.Peer(c)
		nstest.Must(t, err)
		if int(peer.Pid) != os.Getpid() || int(peer.Uid) != os.Geteuid() {
			t.Errorf("the peer of the %s is %+v, want this process", name, *peer)
		}
	}
	nstest.Must(t, server.Close())
	if _, err := fdcontrol.Peer(server); err == nil {
		t.Error("found the peer of a closed connection")
	}
	f, err := os.Open(os.DevNull)
	nstest.Must(t, err)
	defer f.Close()
	if _, err := fdcontrol.Peer(f); !errors.Is(err, syscall.ENOTSOCK) {
		t.Errorf("no socket: %v, want %v", err, syscall.ENOTSOCK)
	}
}

// The groups are those of this process, however many there are.
func TestPeerGroups(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	got, err := fdcontrol.PeerGroups(server.(*net.UnixConn))
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	numbers := []int{}
	for _, group := range got {
		numbers = append(numbers, int(group))
	}
	slices.Sort(own)
	slices.Sort(numbers)
	if !slices.Equal(numbers, own) {
		t.Errorf("groups %d, want %d", numbers, own)
	}
}

func TestPeerGroupsOfNoSocket(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if groups, err := fdcontrol.PeerGroups(f); err == nil {
		t.Errorf("groups %d", groups)
	}
}
