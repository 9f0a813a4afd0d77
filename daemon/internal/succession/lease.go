// SPDX-License-Identifier: Apache-2.0

package succession

import (
	"os"

	"golang.org/x/sys/unix"
)

// Lease goes with one start of a daemon. It is a pipe with one byte in it.
//
// The daemon takes the byte when it can serve, and before it changes the state directory.
// A giver that has waited for that for too long takes it to forbid it: whichever comes
// first, for there is one byte. So it does not matter who was stopped meanwhile, and for
// how long.
//
// Whoever keeps copies of the daemon's descriptors holds the writing end. A daemon
// that reads the end of the file knows that its descriptors end with it.
type Lease struct{ read, write int }

// NewLease returns a lease that nobody has claimed.
func NewLease() (*Lease, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	l := &Lease{read: p[0], write: p[1]}
	if _, err := unix.Write(l.write, []byte{1}); err != nil {
		l.Close()
		return nil, os.NewSyscallError("write", err)
	}
	return l, nil
}

// LeaseOf returns the lease with these ends; write is -1 for the daemon, which has
// none.
func LeaseOf(read, write int) *Lease { return &Lease{read: read, write: write} }

// Ends returns both ends.
func (l *Lease) Ends() (read, write int) { return l.read, l.write }

// Claim reports whether the caller is the first to claim the lease.
func (l *Lease) Claim() bool {
	var b [1]byte
	for {
		n, err := unix.Read(l.read, b[:])
		if err == unix.EINTR {
			continue
		}
		return n == 1
	}
}

// Claimed reports whether anyone has claimed the lease.
func (l *Lease) Claimed() bool { return l.poll(unix.POLLIN)&unix.POLLIN == 0 }

// Kept reports whether anyone holds the writing end.
func (l *Lease) Kept() bool { return l.poll(0)&unix.POLLHUP == 0 }

func (l *Lease) poll(events int16) int16 {
	fds := []unix.PollFd{{Fd: int32(l.read), Events: events}}
	for {
		_, err := unix.Poll(fds, 0)
		if err == unix.EINTR {
			continue
		}
		return fds[0].Revents
	}
}

// End closes this process' writing end.
func (l *Lease) End() {
	if l != nil && l.write >= 0 {
		_ = unix.Close(l.write)
		l.write = -1
	}
}

// Close closes both ends of this process.
func (l *Lease) Close() {
	if l == nil {
		return
	}
	l.End()
	if l.read >= 0 {
		_ = unix.Close(l.read)
		l.read = -1
	}
}
