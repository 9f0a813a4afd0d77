// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/rand"
	"fmt"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// peer is the process at the other end.
type peer struct{ pid, uid, gid int }

// String names it for people.
func (p peer) String() string {
	if p.pid == 0 {
		return "a process of another PID namespace"
	}
	return fmt.Sprintf("process %d", p.pid)
}

// admit returns who has connected, and whether that user may.
func (s *Server) admit(c *net.UnixConn) (peer, bool) {
	cred, err := fdcontrol.Peer(c)
	if err != nil {
		return peer{}, false
	}
	p := peer{int(cred.Pid), int(cred.Uid), int(cred.Gid)}
	if p.uid == 0 || p.uid == s.config.UID || s.config.GID >= 0 && p.gid == s.config.GID {
		return p, true
	}
	if s.config.GID < 0 {
		return p, false
	}
	groups, err := fdcontrol.PeerGroups(c)
	return p, err == nil && slices.Contains(groups, uint32(s.config.GID))
}

// bootID returns what tells this run of the daemon from others.
func bootID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

// monotonic is the kernel's clock of this name.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
