// SPDX-License-Identifier: Apache-2.0

package load

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/internal/boottime"
)

// Stream is a TCP connection that carries data at a steady rate, and notices when it
// stalls.
type Stream struct {
	from, to net.Conn
	rate     int // bytes a second
	stop     atomic.Bool
	sent     int
	received int
	longest  atomic.Int64
}

// NewStream prepares a stream of so many bytes a second. Both ends stay the caller's.
func NewStream(from, to net.Conn, rate int) *Stream {
	return &Stream{from: from, to: to, rate: rate}
}

// chunk is how much is written and read at a time.
const chunk = 64 << 10

// Send sends until Stop, then ends the connection's direction and returns.
func (s *Stream) Send() error {
	data := make([]byte, chunk)
	ticker := time.NewTicker(time.Second * chunk / time.Duration(s.rate))
	defer ticker.Stop()
	for ; !s.stop.Load(); <-ticker.C {
		n, err := s.from.Write(data)
		s.sent += n
		if err != nil {
			return fmt.Errorf("send stream: %w", err)
		}
	}
	if c, ok := s.from.(*net.TCPConn); ok {
		return c.CloseWrite()
	}
	return s.from.Close()
}

// Stop ends Send.
func (s *Stream) Stop() { s.stop.Store(true) }

// Receive returns when the stream has ended. A read that waits for long returns a
// little at a time, so that a stall is seen while it lasts.
func (s *Stream) Receive() error {
	data := make([]byte, chunk)
	last := boottime.Now()
	for {
		if err := s.to.SetReadDeadline(time.Now().Add(look)); err != nil {
			return err
		}
		n, err := s.to.Read(data)
		s.received += n
		now := boottime.Now()
		s.longest.Store(max(s.longest.Load(), int64(now-last)))
		if n > 0 {
			last = now
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("receive stream: %w", err)
		}
	}
}

// Stall returns the longest time in which nothing arrived.
func (s *Stream) Stall() time.Duration { return time.Duration(s.longest.Load()) }

// Lost returns how many bytes did not arrive, when Send and Receive have returned.
func (s *Stream) Lost() int { return s.sent - s.received }
