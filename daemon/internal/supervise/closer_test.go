// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

const ownedTables = 150

// TestManyRemovedAtOnce has the supervisor close the owner sockets of many
// tables while the daemon lives on. Each close takes the kernel some time.
func TestManyRemovedAtOnce(t *testing.T) {
	r := newRig(t)
	r.mode(t, "", "tables")
	r.isolated = true
	r.start(t)
	r.live(t)
	r.logged(t, "daemon ready") // it has read what came before
	before := r.openSockets(t)
	if before < ownedTables {
		t.Fatalf("the supervisor has %d sockets, want %d and more", before, ownedTables)
	}
	began := time.Now()
	kill(t, r.cmd.Process.Pid, unix.SIGHUP) // which is passed on
	r.want(t, "removed")
	r.want(t, "alive")
	removed := time.Since(began)
	eventually(t, "closing of all", func() bool {
		return r.openSockets(t) <= before-ownedTables
	})
	t.Logf("removed after %v, closed after %v", removed, time.Since(began))
	// A daemon that had been restarted would have said so first.
	kill(t, r.cmd.Process.Pid, unix.SIGTERM)
	r.want(t, "stopping keeps=true")
}

// The loop does not wait while the kernel closes what was removed: it hears what
// the daemon says next.
func TestRemovalDoesNotWait(t *testing.T) {
	s := newSupervisor(t)
	closing, closed := make(chan int, ownedTables), make(chan struct{})
	s.store.closer.closeFD = func(fd int) error {
		closing <- fd
		<-closed
		return nil
	}
	defer close(closed)
	for i := range ownedTables {
		s.store.held = append(s.store.held, held{Name: tableName(i).String(), FD: 1000 + i})
	}
	for i := range ownedTables {
		tellSupervisor(t, s, "FDSTOREREMOVE=1\nFDNAME="+tableName(i).String())
		if err := s.receiveAll(); err != nil {
			t.Fatal(err)
		}
	}
	if first := <-closing; first != 1000 || len(closing) > 0 || len(s.store.held) > 0 {
		t.Errorf("%d is being closed, and %d more; %d are held, want 1000 and none",
			first, len(closing), len(s.store.held))
	}
	tellSupervisor(t, s, "READY=1")
	if err := s.receiveAll(); err != nil || !s.worker.ready {
		t.Errorf("the daemon is ready %t, %v; want it heard", s.worker.ready, err)
	}
}

// The descriptors are closed before the program ends.
func TestCloserEnds(t *testing.T) {
	c := newCloser()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	c.add(p[0])
	c.add(p[1])
	c.close()
	for _, fd := range p {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
			t.Errorf("descriptor %d: %v, want it closed", fd, err)
		}
	}
}

// openSockets returns how many sockets the supervisor has. Of other descriptors
// the runtime opens some when it needs them.
func (r *rig) openSockets(t *testing.T) int {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", r.cmd.Process.Pid)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	sockets := 0
	for _, f := range files {
		target, err := os.Readlink(filepath.Join(dir, f.Name()))
		if err == nil && strings.HasPrefix(target, "socket:") {
			sockets++
		}
	}
	return sockets
}

// isolation is a user and a network namespace, for which no privilege is
// needed.
func isolation() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	}
}

// putTables stores the owner sockets of tables, and has no copy of its own.
func putTables(s *fdstore.Store) error {
	for i := range ownedTables {
		f, err := ownTable(fmt.Sprintf("test-%d", i))
		if err != nil {
			return err
		}
		if err := errors.Join(s.Put(tableName(i), f), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func removeTables(s *fdstore.Store) error {
	for i := range ownedTables {
		if err := s.Remove(tableName(i)); err != nil {
			return err
		}
	}
	return nil
}

func tableName(i int) fdstore.Name { return fdstore.Name{Kind: fdstore.Table, Cookie: uint64(i)} }

// ownTable makes a table that goes with the returned socket.
func ownTable(name string) (*os.File, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: append([]byte(name), 0)},
		{Type: unix.NFTA_TABLE_FLAGS, Data: []byte{0, 0, 0, 2}}, // NFT_TABLE_F_OWNER
	})
	if err != nil {
		return nil, err
	}
	message := func(kind, flags int, body ...byte) netlink.Message {
		return netlink.Message{
			Header: netlink.Header{
				Type: netlink.HeaderType(kind), Flags: netlink.Request | netlink.HeaderFlags(flags),
			},
			Data: body,
		}
	}
	batch := []byte{unix.AF_UNSPEC, 0, 0, unix.NFNL_SUBSYS_NFTABLES}
	if _, err := c.SendMessages([]netlink.Message{
		message(unix.NFNL_MSG_BATCH_BEGIN, 0, batch...),
		message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWTABLE,
			unix.NLM_F_CREATE|unix.NLM_F_ACK, append([]byte{unix.NFPROTO_INET, 0, 0, 0}, attrs...)...),
		message(unix.NFNL_MSG_BATCH_END, 0, batch...),
	}); err != nil {
		return nil, err
	}
	if _, err := c.Receive(); err != nil {
		return nil, fmt.Errorf("make table %s: %w", name, err)
	}
	return fdcontrol.Duplicate(c, name)
}
