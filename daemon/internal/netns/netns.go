// SPDX-License-Identifier: Apache-2.0

// Package netns owns everything that has to do with being in a network
// namespace: identifying one, and opening sockets inside it.
//
// A socket belongs to the namespace it was opened in for ever and can be used
// from any thread, so the rule is: enter, open, leave. It is the only package
// that changes the namespace of a thread.
package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	vishnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// ErrNotNetns is in the chain of an error about a descriptor or a path that is
// something else than a network namespace.
var ErrNotNetns = errors.New("not a network namespace")

// ID is the identity of a network namespace. The cookie alone tells two
// namespaces apart, also over time; device and inode are reused by the kernel.
type ID struct {
	Cookie uint64
	Dev    uint64
	Ino    uint64
}

// NetNS is a network namespace that is kept alive by a descriptor. Its methods
// may be called concurrently, but not together with Close.
type NetNS struct {
	file *os.File
	id   ID
}

// Open opens the network namespace at a path such as /run/netns/NAME or
// /proc/PID/ns/net. The caller closes it.
func Open(path string) (*NetNS, error) {
	handle, err := vishnetns.GetFromPath(path)
	if err != nil {
		return nil, &os.PathError{Op: "open netns", Path: path, Err: err}
	}
	return take(os.NewFile(uintptr(handle), path))
}

// FromFile returns the network namespace behind f, which it duplicates.
func FromFile(f *os.File) (*NetNS, error) {
	duplicate, err := fdcontrol.Duplicate(f, f.Name())
	if err != nil {
		return nil, err
	}
	return take(duplicate)
}

// OfSocket returns the network namespace that a socket belongs to.
func OfSocket(f *os.File) (*NetNS, error) {
	n := &NetNS{}
	if err := fdcontrol.Do(f, n.ofSocket); err != nil {
		return nil, err
	}
	return n, nil
}

// ofSocket does without entering the namespace: its identity can be asked from
// the socket.
func (n *NetNS) ofSocket(socket int) error {
	fd, err := unix.IoctlRetInt(socket, unix.SIOCGSKNS)
	if err != nil {
		return os.NewSyscallError("ioctl SIOCGSKNS", err)
	}
	n.file = os.NewFile(uintptr(fd), "netns of a socket")
	if err := n.identifyBy(socket); err != nil {
		return errors.Join(err, n.file.Close())
	}
	return nil
}

// Clone returns another handle on the same namespace.
func (n *NetNS) Clone() (*NetNS, error) {
	duplicate, err := fdcontrol.Duplicate(n.file, n.file.Name())
	if err != nil {
		return nil, err
	}
	return &NetNS{file: duplicate, id: n.id}, nil
}

// New makes a network namespace that lives until it is closed and nothing else
// refers to it.
func New() (*NetNS, error) {
	var n *NetNS
	err := onOwnThread(func() error {
		handle, err := vishnetns.New()
		if err != nil {
			return fmt.Errorf("make netns: %w", err)
		}
		n, err = take(os.NewFile(uintptr(handle), "new netns"))
		return err
	})
	return n, err
}

// take identifies the namespace behind f. It closes f where it fails.
func take(f *os.File) (*NetNS, error) {
	n := &NetNS{file: f}
	if err := n.identify(); err != nil {
		_ = f.Close()
		return nil, err
	}
	return n, nil
}

func (n *NetNS) identify() error {
	fd := int(n.file.Fd())
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		return fmt.Errorf("%s: %w", n.file.Name(), ErrNotNetns)
	}
	s, err := n.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	return n.identifyBy(s)
}

// currentCookie is that of this process's namespace.
func currentCookie() (uint64, error) {
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(s)
	return cookieOf(s)
}

func cookieOf(socket int) (uint64, error) {
	cookie, err := unix.GetsockoptUint64(socket, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, os.NewSyscallError("getsockopt SO_NETNS_COOKIE (needs Linux 5.14)", err)
	}
	return cookie, nil
}

// identifyBy asks a socket inside the namespace for its cookie.
func (n *NetNS) identifyBy(socket int) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(n.file.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	cookie, err := cookieOf(socket)
	if err != nil {
		return err
	}
	n.id = ID{Cookie: cookie, Dev: st.Dev, Ino: st.Ino}
	return nil
}

// ID returns the identity of the namespace.
func (n *NetNS) ID() ID { return n.id }

// Fd returns the descriptor that keeps the namespace alive; it is valid until
// Close.
func (n *NetNS) Fd() int { return int(n.file.Fd()) }

// Close lets go of the namespace.
func (n *NetNS) Close() error { return n.file.Close() }

// Do calls fn on a thread inside the namespace and returns fn's error. Sockets
// that fn opens belong to the namespace; goroutines that it starts do not run
// there.
func (n *NetNS) Do(fn func() error) error {
	return onOwnThread(func() error {
		if err := n.enter(); err != nil {
			return err
		}
		return fn()
	})
}

// DoAndEnd calls fn as [NetNS.Do] does, on a thread that ends then: fn may change what a
// thread has of its own, such as the group and the rights of what it starts.
func (n *NetNS) DoAndEnd(fn func() error) error {
	return onLockedThread(func() error {
		if err := n.enter(); err != nil {
			return err
		}
		return fn()
	})
}

// Place is where something can be done: a namespace, or a stop of a [Tour].
type Place interface {
	Do(fn func() error) error
}

// Tour calls fn with a function that makes places of namespaces, to look at
// many of them from a single thread: going home in between costs more than the
// looking. The places are valid until fn returns.
func Tour(fn func(visit func(*NetNS) Place) error) error {
	return onOwnThread(func() error {
		return fn(func(n *NetNS) Place { return stop{n} })
	})
}

// stop is a namespace that the thread of a tour enters and does not leave.
type stop struct{ ns *NetNS }

// Do enters the namespace on the caller's thread, which is the tour's.
func (s stop) Do(fn func() error) error {
	if err := s.ns.enter(); err != nil {
		return err
	}
	return fn()
}

func (n *NetNS) enter() error {
	if err := vishnetns.Set(vishnetns.NsHandle(n.file.Fd())); err != nil {
		return fmt.Errorf("enter netns %s: %w", n.file.Name(), os.NewSyscallError("setns", err))
	}
	return nil
}

// Socket opens a close-on-exec socket inside the namespace.
func (n *NetNS) Socket(domain, typ, proto int) (int, error) {
	fd := -1
	err := n.Do(func() error {
		var err error
		fd, err = unix.Socket(domain, typ|unix.SOCK_CLOEXEC, proto)
		return os.NewSyscallError("socket", err)
	})
	return fd, err
}

// IsCurrent reports whether the namespace is that of this process.
func (n *NetNS) IsCurrent() (bool, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		return false, &os.PathError{Op: "stat", Path: "/proc/self/ns/net", Err: err}
	}
	return st.Dev == n.id.Dev && st.Ino == n.id.Ino, nil
}

// IsInitial reports whether the namespace is the one that the kernel booted
// with. Unlike a comparison with /proc/1/ns/net this also tells inside a PID
// namespace and without the right to trace process 1.
//
// The kernel numbers its namespaces by their cookies and that one first, so one
// with a higher cookie than this process's is another. Of the rest, only the initial one
// shows the settings of the packet scheduler. The look-up of that file passes
// by every namespace that was looked into before: 1 ms where there are 1,000.
func (n *NetNS) IsInitial() (bool, error) {
	own, err := currentCookie()
	if err != nil || n.id.Cookie > own {
		return false, err
	}
	initial := false
	err = n.Do(func() error {
		_, err := os.Stat("/proc/sys/net/core/netdev_budget")
		initial = err == nil
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	return initial, err
}

// onOwnThread runs fn on a thread of its own. The thread goes back to the
// runtime only if it is in its old namespace again.
func onOwnThread(fn func() error) error {
	return onLockedThread(func() error { return andBack(fn) })
}

// onLockedThread runs fn on a thread of its own, which ends with its goroutine where fn
// does not unlock it.
//
// It is never the main thread, whose namespace /proc shows as that of the process,
// to this package, too.
func onLockedThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done <- onLockedThread(fn) // while this goroutine occupies the main thread
			return
		}
		done <- fn()
	}()
	return <-done
}

// andBack runs fn and returns the locked thread to the namespace it was in.
func andBack(fn func() error) error {
	home, err := vishnetns.Get()
	if err != nil {
		return fmt.Errorf("open own netns: %w", err)
	}
	defer home.Close()
	err = fn()
	if vishnetns.Set(home) == nil {
		runtime.UnlockOSThread()
	}
	return err
}
