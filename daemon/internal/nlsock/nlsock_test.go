// SPDX-License-Identifier: Apache-2.0

package nlsock_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/nlsock"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// here opens sockets in the netns of the test. It only asks for what anyone may.
type here struct{}

func (here) Socket(domain, typ, protocol int) (int, error) {
	return unix.Socket(domain, typ|unix.SOCK_CLOEXEC, protocol)
}

func open(t *testing.T, b *nlsock.Buffers) *nlsock.Socket {
	t.Helper()
	s, err := nlsock.Open(here{}, unix.NETLINK_ROUTE, b)
	nstest.Must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// link is the body of a request for an interface, or for all where it is 0.
func link(index byte) []byte {
	return append([]byte{0, 0, 0, 0, index, 0, 0, 0}, make([]byte, 8)...)
}

const loopback = 1

func TestGet(t *testing.T) {
	for name, buffers := range map[string]*nlsock.Buffers{"own": nil, "lent": {}} {
		s := open(t, buffers)
		for range 2 { // nothing of one exchange is left for the next
			answers := 0
			nstest.Must(t, s.Get(unix.RTM_GETLINK, link(loopback), func(body []byte) error {
				answers++
				if len(body) < unix.SizeofIfInfomsg || body[4] != loopback {
					t.Errorf("%s buffers: %x is not about lo", name, body)
				}
				return nil
			}))
			if answers != 1 {
				t.Errorf("%s buffers: %d answers, want 1", name, answers)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	s := open(t, nil)
	unwanted := func(body []byte) error {
		t.Errorf("answer %x", body)
		return nil
	}
	if err := s.Get(unix.RTM_GETLINK, link(255), unwanted); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no interface: %v, want %v", err, unix.ENODEV)
	}
	want := errors.New("of the caller")
	fail := func([]byte) error { return want }
	if err := s.Get(unix.RTM_GETLINK, link(loopback), fail); !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
	}
	if err := s.Get(unix.NLMSG_NOOP, nil, unwanted); err == nil {
		t.Error("no error where the kernel has nothing to answer")
	}
	nstest.Must(t, s.Close())
	if err := s.Get(unix.RTM_GETLINK, link(loopback), unwanted); err == nil {
		t.Error("no error for a closed socket")
	}
}

func TestDump(t *testing.T) {
	s := open(t, nil)
	for range 2 {
		found := false
		nstest.Must(t, s.Dump(unix.RTM_GETLINK, link(0), func(body []byte) error {
			found = found || body[4] == loopback
			return nil
		}))
		if !found {
			t.Error("lo is not in the list of interfaces")
		}
	}
	s.SetDeadline(time.Now())
	err := s.Dump(unix.RTM_GETLINK, link(0), func([]byte) error { return nil })
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v, want %v", err, os.ErrDeadlineExceeded)
	}
}

func TestExchange(t *testing.T) {
	s := open(t, nil)
	first, second := s.Sequence(), s.Sequence()
	header := nlsock.Header{Type: unix.NLMSG_NOOP, Flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK}
	header.Sequence = first
	request := header.Append(nil, nil)
	header.Sequence = second
	var answered []uint32
	nstest.Must(t, s.Exchange(header.Append(request, nil), func(m nlsock.Message) error {
		answered = append(answered, m.Sequence)
		return nlsock.Errno(m.Body)
	}))
	if len(answered) != 2 || answered[0] != first || answered[1] != second {
		t.Errorf("answers to %v, want to %d and %d", answered, first, second)
	}
}

// cookie of the netns of the test.
func cookie(t *testing.T, f *os.File) (c uint64) {
	t.Helper()
	nstest.Must(t, fdcontrol.Do(f, func(fd int) error {
		var err error
		c, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		return err
	}))
	return c
}

// A successor keeps the port, and is not disturbed by a list that was begun.
func TestOpenInherited(t *testing.T) {
	s := open(t, nil)
	port, err := s.PortID()
	nstest.Must(t, err)
	list := nlsock.Header{Type: unix.RTM_GETLINK, Flags: unix.NLM_F_REQUEST | unix.NLM_F_DUMP}
	nstest.Must(t, fdcontrol.Do(s.File(), func(fd int) error {
		_, err := unix.Write(fd, list.Append(nil, link(0)))
		return err
	}))
	kept, err := fdcontrol.Duplicate(s.File(), "kept")
	nstest.Must(t, err)
	nstest.Must(t, s.Close())
	s, err = nlsock.OpenInherited(kept, unix.NETLINK_ROUTE, cookie(t, kept), nil)
	nstest.Must(t, err)
	defer s.Close()
	if again, err := s.PortID(); again != port || port == 0 || err != nil {
		t.Errorf("port %d, %v, want %d as before", again, err, port)
	}
	answers := 0
	nstest.Must(t, s.Get(unix.RTM_GETLINK, link(loopback), func([]byte) error {
		answers++
		return nil
	}))
	if answers != 1 {
		t.Errorf("%d answers to one question", answers)
	}
}

func TestOpenInheritedUnfit(t *testing.T) {
	s := open(t, nil)
	own := cookie(t, s.File())
	tcp, err := here{}.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	nstest.Must(t, err)
	null, err := os.Open(os.DevNull)
	nstest.Must(t, err)
	for want, tt := range map[string]struct {
		file     *os.File
		protocol int
		cookie   uint64
	}{
		"socket domain is 2":   {os.NewFile(uintptr(tcp), "tcp"), unix.NETLINK_ROUTE, own},
		"socket protocol is 0": {duplicate(t, s), unix.NETLINK_NETFILTER, own},
		"socket of netns":      {duplicate(t, s), unix.NETLINK_ROUTE, own + 1},
		"getsockopt":           {null, unix.NETLINK_ROUTE, own},
	} {
		_, err := nlsock.OpenInherited(tt.file, tt.protocol, tt.cookie, nil)
		if err == nil || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), tt.file.Name()) {
			t.Errorf("%s: %v, want %q", tt.file.Name(), err, want)
		}
		if err := tt.file.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s was left open: %v", tt.file.Name(), err)
		}
	}
}

func duplicate(t *testing.T, s *nlsock.Socket) *os.File {
	t.Helper()
	f, err := fdcontrol.Duplicate(s.File(), "duplicate")
	nstest.Must(t, err)
	return f
}

type broken struct{}

func (broken) Socket(int, int, int) (int, error) { return -1, unix.EMFILE }

func TestOpenFails(t *testing.T) {
	if _, err := nlsock.Open(broken{}, unix.NETLINK_ROUTE, nil); !errors.Is(err, unix.EMFILE) {
		t.Errorf("%v, want %v", err, unix.EMFILE)
	}
}

// What other processes send does not arrive.
func TestConnected(t *testing.T) {
	s := open(t, nil)
	port, err := s.PortID()
	nstest.Must(t, err)
	other, err := here{}.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	nstest.Must(t, err)
	defer unix.Close(other)
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: port}
	forged := nlsock.Header{Type: unix.RTM_NEWLINK}.Append(nil, link(loopback))
	if err := unix.Sendto(other, forged, 0, to); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("sent to a socket that is connected to the kernel: %v, want %v", err,
			unix.ECONNREFUSED)
	}
}
