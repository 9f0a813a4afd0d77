// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"net"

	"github.com/nsqueue/nsqueue/internal/unixsocket"
)

// listen makes the socket, and lets those connect who may. One that no process serves any
// more is replaced.
func (s *Server) listen() (*net.UnixListener, error) {
	l, err := unixsocket.Listen("unixpacket", s.config.Socket)
	if err != nil {
		return nil, err
	}
	if err := unixsocket.Admit(s.config.Socket, s.config.UID, s.config.GID); err != nil {
		return nil, errors.Join(fmt.Errorf("let the inspector's user connect: %w", err), l.Close())
	}
	return l, nil
}
