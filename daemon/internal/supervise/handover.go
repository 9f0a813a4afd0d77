// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/succession"
)

// envHandover is the descriptor of the memory that has what a supervisor hands
// to the version that replaces it.
const envHandover = "NSQUEUE_HANDOVER"

// handoverVersion changes when an older reader would misunderstand the rest.
const handoverVersion = 1

// handover is what outlives the execution of another version. All of the
// descriptors stay open in between.
type handover struct {
	Version  int    `json:"version"`
	Socket   int    `json:"socket"`
	Path     string `json:"path"`
	Held     []held `json:"held"`
	Restarts int    `json:"restarts"`
}

// parseHandover reads what another version has written.
func parseHandover(b []byte) (*handover, error) {
	var h handover
	if err := json.Unmarshal(b, &h); err != nil {
		return nil, err
	}
	if h.Version != handoverVersion {
		return nil, fmt.Errorf("handover has version %d: this program knows version %d",
			h.Version, handoverVersion)
	}
	if h.Socket < fdstore.FirstFD || h.Path == "" {
		return nil, fmt.Errorf("handover has socket %d at %q", h.Socket, h.Path)
	}
	for _, held := range h.Held {
		if err := succession.CheckName(held.Name); err != nil {
			return nil, err
		}
		if held.FD < fdstore.FirstFD {
			return nil, fmt.Errorf("handover has descriptor %d for %s", held.FD, held.Name)
		}
	}
	return &h, nil
}

// takeHandover returns what the version before this one left in this process,
// or nil if there was none.
func takeHandover() (*handover, error) {
	text := os.Getenv(envHandover)
	if text == "" {
		return nil, nil //nolint:nilnil // neither is an answer of its own
	}
	fd, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", envHandover, err)
	}
	if err := os.Unsetenv(envHandover); err != nil {
		return nil, err
	}
	b, err := os.ReadFile("/proc/self/fd/" + strconv.FormatUint(fd, 10))
	if err := errors.Join(err, unix.Close(int(fd))); err != nil {
		return nil, err
	}
	return parseHandover(b)
}

// write puts the handover into memory that outlives the program.
func (h *handover) write() (int, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return -1, err
	}
	fd, err := unix.MemfdCreate("nsqueue-handover", 0)
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil {
			_ = unix.Close(fd)
			return -1, os.NewSyscallError("write memfd", err)
		}
		b = b[n:]
	}
	return fd, nil
}

// becomeNew executes what is at the executable's path by now, in this process.
// It returns only if that cannot be done, and everything is as before then.
func (s *supervisor) becomeNew() error {
	h := handover{
		Version: handoverVersion, Socket: s.socket.fd, Path: s.socket.path,
		Held: s.store.held, Restarts: s.restarts,
	}
	fd, err := h.write()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	s.store.closer.close()
	defer func() { s.store.closer = newCloser() }()
	defer func() { _ = s.inherit(false) }()
	if err := s.inherit(true); err != nil {
		return err
	}
	// These would end the new program before it has come to catch them. SIGTERM
	// may: what it asks for is the same.
	signal.Ignore(unix.SIGHUP, unix.SIGUSR2)
	defer signal.Notify(s.signals.caught, unix.SIGHUP, unix.SIGUSR2)
	s.oom.undo()
	defer s.oom.lower(s.log)
	env := append(os.Environ(), envHandover+"="+strconv.Itoa(fd))
	err = syscall.Exec(s.executable, os.Args, env)
	return fmt.Errorf("execute %s: %w", s.executable, err)
}

// inherit says whether the descriptors outlive this program.
func (s *supervisor) inherit(yes bool) error {
	return errors.Join(s.store.closeOnExec(!yes), closeOnExec(s.socket.fd, !yes))
}
