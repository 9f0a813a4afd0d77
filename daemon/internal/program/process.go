// SPDX-License-Identifier: Apache-2.0

package program

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/cgroup"
)

// ErrGone is in the chain of Open's error when the process has ended.
var ErrGone = errors.New("the process has ended")

// Process is a program that runs, or has ended. Its methods may be called by any
// goroutine; Close comes last.
type Process struct {
	// PID is the number, as this process sees it.
	PID int
	// Start is when it began, in ticks since boot: no other process has both.
	Start uint64
	file  *os.File // a pidfd
	group *cgroup.Group
	child bool
}

// Open returns the process that an earlier daemon has started.
func Open(pid int, start uint64, g *cgroup.Group) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	p, err := newProcess(pid, fd, g)
	if err != nil {
		return nil, err
	}
	if p.Start != start || p.ended() {
		return nil, errors.Join(ErrGone, p.Close())
	}
	return p, nil
}

// newProcess takes the pidfd over.
func newProcess(pid, pidfd int, g *cgroup.Group) (*Process, error) {
	// The runtime waits for files that are nonblocking.
	if err := unix.SetNonblock(pidfd, true); err != nil {
		return nil, errors.Join(os.NewSyscallError("fcntl O_NONBLOCK", err), unix.Close(pidfd))
	}
	file := os.NewFile(uintptr(pidfd), "pidfd")
	start, err := startOf(pid)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &Process{PID: pid, Start: start, file: file, group: g}, nil
}

// startOf reads when a process began.
func startOf(pid int) (uint64, error) {
	text, err := os.ReadFile(procPath(pid, "stat"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return 0, ErrGone
	}
	if err != nil {
		return 0, err
	}
	return parseStart(text)
}

// parseStart finds the 22nd field. The second one, in brackets, may have anything in it.
func parseStart(stat []byte) (uint64, error) {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const at = 22 - 3
	if len(fields) <= at {
		return 0, fmt.Errorf("%d fields in stat", len(fields))
	}
	return strconv.ParseUint(fields[at], 10, 64)
}

// ended reports whether the process has ended.
func (p *Process) ended() bool {
	n := 0
	conn, err := p.file.SyscallConn()
	if err == nil {
		err = conn.Control(func(fd uintptr) {
			n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		})
	}
	return err != nil || n > 0
}

// Wait returns when the process has ended, and says how, as far as that can be known: a
// process that an earlier daemon has started tells nobody. It returns an error after Close.
func (p *Process) Wait() (string, error) {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return "", err
	}
	if err := conn.Read(func(uintptr) bool { return p.ended() }); err != nil {
		return "", err
	}
	if !p.child {
		return "ended", nil
	}
	return p.reap(conn.Control)
}

// reap takes the child's exit status.
func (p *Process) reap(control func(func(uintptr)) error) (string, error) {
	var info struct {
		Signo, Errno, Code, _ int32
		Pid                   int32
		UID                   uint32
		Status                int32
		_                     [100]byte
	}
	var errno unix.Errno
	err := control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_WAITID, unix.P_PIDFD, fd,
			uintptr(unsafe.Pointer(&info)), unix.WEXITED, 0, 0)
	})
	switch {
	case err != nil:
		return "", err
	case errno != 0:
		return "ended", nil
	case info.Code == cldExited:
		return fmt.Sprintf("exited with code %d", info.Status), nil
	}
	return "was ended by signal " + unix.SignalName(unix.Signal(info.Status)), nil
}

const cldExited = 1 // CLD_EXITED

// Terminate asks the process to end.
func (p *Process) Terminate() error {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = conn.Control(func(fd uintptr) {
		sent = unix.PidfdSendSignal(int(fd), unix.SIGTERM, nil, 0)
	})
	if errors.Is(sent, unix.ESRCH) {
		sent = nil
	}
	return errors.Join(err, os.NewSyscallError("pidfd_send_signal", sent))
}

// Kill ends the process and all that it has started.
func (p *Process) Kill() error { return p.group.Kill() }

// Close lets go of the process, which goes on.
func (p *Process) Close() error { return p.file.Close() }

// IsChild reports whether this process has started it.
func (p *Process) IsChild() bool { return p.child }
