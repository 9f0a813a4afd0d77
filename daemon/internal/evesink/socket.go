// SPDX-License-Identifier: Apache-2.0

package evesink

import (
	"net"
	"time"
)

// Who listens gets so long to accept a connection, and to read what was written.
const (
	connectTimeout = time.Second
	writeTimeout   = 5 * time.Second
)

// socket writes to a unix socket that somebody else listens on.
type socket struct {
	path string
	conn net.Conn
}

func (s *socket) ready(reopen bool) (usable bool, err error) {
	if s.conn != nil && reopen {
		_ = s.close() // a new connection follows, whatever the old one says
	}
	if s.conn == nil {
		s.conn, err = net.DialTimeout("unix", s.path, connectTimeout)
	}
	return s.conn != nil, err
}

// write closes the connection after a failure: its reader has half a line.
func (s *socket) write(lines []byte) (int, error) {
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	n, err := s.conn.Write(lines)
	if err != nil {
		_ = s.close() // the failure of the write says more
	}
	return n, err
}

func (s *socket) close() error {
	if s.conn == nil {
		return nil
	}
	conn := s.conn
	s.conn = nil
	return conn.Close()
}
