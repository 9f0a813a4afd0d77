// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package fdcontrol

import (
	"errors"
	"syscall"
)

// Cred is who a process is. Nothing of nsqueue runs on other systems than Linux but what
// reads the answers of nodes, and that connects to no socket.
type Cred struct {
	Pid      int32
	Uid, Gid uint32
}

// Peer fails.
func Peer(syscall.Conn) (*Cred, error) { return nil, errors.ErrUnsupported }

// PeerGroups fails.
func PeerGroups(syscall.Conn) ([]uint32, error) { return nil, errors.ErrUnsupported }

// HungUp cannot tell.
func HungUp(syscall.Conn) bool { return false }
