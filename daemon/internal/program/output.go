// SPDX-License-Identifier: Apache-2.0

package program

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/internal/printable"
)

// Sizes of what programs print.
const (
	// pipeSize is what may wait while no daemon runs. Then the program waits, too.
	pipeSize = 256 << 10
	// MaxLine is where longer lines are cut.
	MaxLine = 1024
)

// outputPipe returns both ends of a pipe. The end for the program reads as well as it
// writes, so that writing does not end the program while nobody else reads.
func outputPipe() (ours, theirs *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(fds[1])
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
	if err := unix.SetNonblock(fds[0], true); err != nil {
		err = os.NewSyscallError("fcntl O_NONBLOCK", err)
		return nil, nil, errors.Join(err, unix.Close(fds[0]))
	}
	ours = os.NewFile(uintptr(fds[0]), "output of a program")
	theirs, err = os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fds[1]), os.O_RDWR, 0)
	if err != nil {
		return nil, nil, errors.Join(err, ours.Close())
	}
	return ours, theirs, nil
}

// Output returns what the process prints, if it still prints where it began to; nil else.
func (p *Process) Output() *os.File {
	path := procPath(p.PID, "fd/1")
	target, err := os.Readlink(path)
	if err != nil || !strings.HasPrefix(target, "pipe:[") {
		return nil
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), "output of a program")
}

// Lines calls each for each line that comes, escaped and cut, and returns when there are
// no more. What does not fit into a line is left out.
func Lines(output *os.File, each func(line string)) {
	r := bufio.NewReaderSize(output, MaxLine)
	for {
		line, err := r.ReadSlice('\n')
		text := strings.TrimRight(string(line), "\r\n")
		if errors.Is(err, bufio.ErrBufferFull) {
			text += "…"
		}
		if text != "" {
			each(printable.Line(text))
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.ReadSlice('\n')
		}
		if err != nil {
			return
		}
	}
}
