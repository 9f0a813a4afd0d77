// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// holder is the supervisor's side of the descriptor store: it keeps what it is
// sent for the registry that follows.
type holder struct {
	t    *testing.T
	path string
	conn *net.UnixConn
	// synced has a value for each message that asks for one.
	synced chan struct{}

	mu   sync.Mutex
	held []fdstore.Descriptor
}

func newHolder(t *testing.T) *holder {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must(t, err)
	h := &holder{t: t, path: path, conn: conn, synced: make(chan struct{}, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.serve()
	}()
	t.Cleanup(func() {
		must(t, conn.Close())
		<-done
		h.remove(func(string) bool { return true })
	})
	return h
}

func (h *holder) serve() {
	text, oob := make([]byte, 1<<12), make([]byte, unix.CmsgSpace(4*253))
	for {
		n, oobn, _, _, err := h.conn.ReadMsgUnix(text, oob)
		if err != nil {
			return
		}
		h.handle(string(text[:n]), oob[:oobn])
	}
}

func (h *holder) handle(text string, oob []byte) {
	message := make(map[string]string)
	for line := range strings.SplitSeq(text, "\n") {
		key, value, _ := strings.Cut(line, "=")
		message[key] = value
	}
	if message["SYNC"] != "" {
		h.synced <- struct{}{}
		return
	}
	name := message["FDNAME"]
	if message["FDSTOREREMOVE"] != "" {
		h.remove(func(have string) bool { return have == name })
	}
	if message["FDSTORE"] == "" {
		return
	}
	controls, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		h.t.Error(err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range controls {
		fds, err := unix.ParseUnixRights(&c)
		if err != nil {
			h.t.Error(err)
		}
		for _, fd := range fds {
			h.held = append(h.held,
				fdstore.Descriptor{Name: name, File: os.NewFile(uintptr(fd), name)})
		}
	}
}

func (h *holder) remove(match func(name string) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var left []fdstore.Descriptor
	for _, d := range h.held {
		if !match(d.Name) {
			left = append(left, d)
			continue
		}
		if err := d.File.Close(); err != nil {
			h.t.Error(err)
		}
	}
	h.held = left
}

// names returns what is held under which name.
func (h *holder) names() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := make(map[string]int)
	for _, d := range h.held {
		names[d.Name]++
	}
	return names
}

// await waits until as many descriptors are held.
func (h *holder) await(n int) {
	h.t.Helper()
	nstest.Eventually(h.t, reply, "descriptors held", func() bool {
		total := 0
		for _, count := range h.names() {
			total += count
		}
		return total == n
	})
}

// sync returns when all that was sent before has been handled, as a supervisor
// does before it starts a daemon.
func (h *holder) sync() {
	h.t.Helper()
	conn, err := net.Dial("unixgram", h.path)
	must(h.t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("SYNC=1"))
	must(h.t, err)
	<-h.synced
}

// connect returns the store of a new process and what it inherits.
func (h *holder) connect() (*fdstore.Store, []fdstore.Descriptor) {
	if h == nil {
		return nil, nil
	}
	h.t.Helper()
	variables := map[string]string{"NOTIFY_SOCKET": h.path, "FDSTORE": "1000"}
	store, err := fdstore.FromEnvironment(fdstore.Environment{
		Getenv:   func(name string) string { return variables[name] },
		Unsetenv: func(string) error { return nil },
		PID:      os.Getpid(), Getppid: os.Getppid,
	})
	must(h.t, err)
	h.t.Cleanup(store.Close)
	return store, h.copies()
}

// copies returns copies of what is held.
func (h *holder) copies() []fdstore.Descriptor {
	h.t.Helper()
	h.sync()
	h.mu.Lock()
	defer h.mu.Unlock()
	var copies []fdstore.Descriptor
	for _, d := range h.held {
		file, err := fdcontrol.Duplicate(d.File, d.Name)
		must(h.t, err)
		copies = append(copies, fdstore.Descriptor{Name: d.Name, File: file})
	}
	return copies
}

// unbind takes a pod's queue away, by the copy of its socket that the holder has.
func (d *daemon) unbind(pod *nstest.NetNS) {
	d.t.Helper()
	cookie := cookieOf(d.t, pod)
	for _, held := range d.holder.copies() {
		name, err := fdstore.ParseName(held.Name)
		must(d.t, err)
		if name.Kind != fdstore.Queue || name.Cookie != cookie {
			must(d.t, held.File.Close())
			continue
		}
		q, err := nfqueue.OpenInherited(held.File, nfqueue.Config{
			Number: nfqueue.DefaultNumber, Length: nfqueue.DefaultLength,
			CopyRange: nfqueue.MaxCopyRange, ReceiveBuffer: nfqueue.DefaultReceiveBuffer,
		})
		must(d.t, err)
		must(d.t, errors.Join(q.Unbind(), q.Close()))
	}
}
