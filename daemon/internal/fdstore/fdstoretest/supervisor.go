// SPDX-License-Identifier: Apache-2.0

// Package fdstoretest is the other side of the descriptor store, for tests.
package fdstoretest

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// patience is only for what hangs.
const patience = time.Minute

// Supervisor holds what it is sent, for the process that follows.
type Supervisor struct {
	t    *testing.T
	path string
	conn *net.UnixConn
	// synced has a value for each message that asks for one.
	synced chan struct{}

	mu   sync.Mutex
	held []fdstore.Descriptor
}

// New returns a supervisor that ends with the test.
func New(t *testing.T) *Supervisor {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	nstest.Must(t, err)
	s := &Supervisor{t: t, path: path, conn: conn, synced: make(chan struct{}, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serve()
	}()
	t.Cleanup(func() {
		nstest.Must(t, conn.Close())
		<-done
		s.remove(func(string) bool { return true })
	})
	return s
}

func (s *Supervisor) serve() {
	text, oob := make([]byte, 1<<12), make([]byte, unix.CmsgSpace(4*253))
	for {
		n, oobn, _, _, err := s.conn.ReadMsgUnix(text, oob)
		if err != nil {
			return
		}
		s.handle(string(text[:n]), oob[:oobn])
	}
}

func (s *Supervisor) handle(text string, oob []byte) {
	message := make(map[string]string)
	for line := range strings.SplitSeq(text, "\n") {
		key, value, _ := strings.Cut(line, "=")
		message[key] = value
	}
	if message["SYNC"] != "" {
		s.synced <- struct{}{}
		return
	}
	name := message["FDNAME"]
	if message["FDSTOREREMOVE"] != "" {
		s.remove(func(have string) bool { return have == name })
	}
	if message["FDSTORE"] == "" {
		return
	}
	controls, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		s.t.Error(err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range controls {
		fds, err := unix.ParseUnixRights(&c)
		if err != nil {
			s.t.Error(err)
		}
		for _, fd := range fds {
			s.held = append(s.held,
				fdstore.Descriptor{Name: name, File: os.NewFile(uintptr(fd), name)})
		}
	}
}

func (s *Supervisor) remove(match func(name string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var left []fdstore.Descriptor
	for _, d := range s.held {
		if !match(d.Name) {
			left = append(left, d)
			continue
		}
		if err := d.File.Close(); err != nil {
			s.t.Error(err)
		}
	}
	s.held = left
}

// Lose closes all that is held, as the end of a supervisor does.
func (s *Supervisor) Lose() {
	s.t.Helper()
	s.sync()
	s.remove(func(string) bool { return true })
}

// Names returns what is held under which name.
func (s *Supervisor) Names() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make(map[string]int)
	for _, d := range s.held {
		names[d.Name]++
	}
	return names
}

// Await waits until as many descriptors are held.
func (s *Supervisor) Await(n int) {
	s.t.Helper()
	nstest.Eventually(s.t, patience, "descriptors held", func() bool {
		total := 0
		for _, count := range s.Names() {
			total += count
		}
		return total == n
	})
}

// sync returns when all that was sent before has been handled, as a supervisor
// does before it starts a daemon.
func (s *Supervisor) sync() {
	s.t.Helper()
	conn, err := net.Dial("unixgram", s.path)
	nstest.Must(s.t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("SYNC=1"))
	nstest.Must(s.t, err)
	<-s.synced
}

// Connect returns the store of a new process and what it inherits; nothing of no
// supervisor.
func (s *Supervisor) Connect() (*fdstore.Store, []fdstore.Descriptor) {
	if s == nil {
		return nil, nil
	}
	s.t.Helper()
	variables := map[string]string{"NOTIFY_SOCKET": s.path, "FDSTORE": "1000"}
	store, err := fdstore.FromEnvironment(fdstore.Environment{
		Getenv:   func(name string) string { return variables[name] },
		Unsetenv: func(string) error { return nil },
		PID:      os.Getpid(), Getppid: os.Getppid,
	})
	nstest.Must(s.t, err)
	s.t.Cleanup(store.Close)
	return store, s.Copies()
}

// Copies returns copies of what is held.
func (s *Supervisor) Copies() []fdstore.Descriptor {
	s.t.Helper()
	s.sync()
	s.mu.Lock()
	defer s.mu.Unlock()
	var copies []fdstore.Descriptor
	for _, d := range s.held {
		file, err := fdcontrol.Duplicate(d.File, d.Name)
		nstest.Must(s.t, err)
		copies = append(copies, fdstore.Descriptor{Name: d.Name, File: file})
	}
	return copies
}
