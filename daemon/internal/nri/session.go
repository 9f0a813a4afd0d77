// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// ioLimit is for connecting and writing. A runtime that takes longer hangs.
	ioLimit = 5 * time.Second
	// introduction is how long it may take until the runtime has told of all pods. It does
	// not while it starts one.
	introduction = time.Minute
	// defaultLimit is what calls may take where the runtime does not say.
	defaultLimit = 2 * time.Second
	// calls is how many of the runtime's are at work at a time.
	calls = 64
)

// session is one connection to the runtime.
type session struct {
	plugin    *Plugin
	conn      net.Conn
	config    configuration
	pods      []Pod // of calls to synchronize that others follow
	connected atomic.Bool

	sending sync.Mutex
}

var errSilent = fmt.Errorf("the runtime has not told of its pods within %s", introduction)

// run connects, and serves until the connection or ctx ends. Its error is never nil.
func (s *session) run(ctx context.Context) error {
	dialer := net.Dialer{Timeout: ioLimit}
	conn, err := dialer.DialContext(ctx, "unix", s.plugin.socket)
	if err != nil {
		return err
	}
	s.conn = conn
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := conn.SetReadDeadline(time.Now().Add(introduction)); err != nil {
		return err
	}
	if err := s.register(); err != nil {
		return err
	}
	err = s.serve(ctx)
	switch {
	case errors.Is(err, io.EOF):
		err = errors.New("the runtime has closed the connection")
	case isTimeout(err):
		err = errSilent
	}
	return err
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// register tells the runtime that there is a plugin.
func (s *session) register() error {
	payload := appendText(appendText(nil, 1, name), 2, place)
	c := call{service: runtimeService, method: registerMethod, payload: payload}
	return s.send(&message{stream: ofRuntime, call: 1, kind: request, data: c.encode()})
}

func (s *session) send(m *message) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	if err := s.conn.SetWriteDeadline(time.Now().Add(ioLimit)); err != nil {
		return err
	}
	_, err := s.conn.Write(frame(m))
	return err
}

// serve answers the runtime. Those of its calls that are at work end before it returns.
func (s *session) serve(ctx context.Context) error {
	var working sync.WaitGroup
	defer working.Wait()
	turns := make(chan struct{}, calls)
	in := newReader(s.conn)
	for {
		m, err := in.next()
		if err != nil {
			return err
		}
		switch {
		case m.stream == ofRuntime && m.kind == response:
			if err := refusal(m.data); err != nil {
				return err
			}
		case m.stream == ofPlugin && m.kind == request:
			c, err := parseCall(m.data)
			if err != nil {
				return fmt.Errorf("%w: %w", errMessage, err)
			}
			w, err := s.begin(&c)
			turns <- struct{}{}
			working.Go(func() {
				defer func() { <-turns }()
				s.answer(ctx, m.call, w, err)
			})
		}
	}
}

// answer carries a call out, unless there is an error, and answers it.
func (s *session) answer(ctx context.Context, number uint32, w *work, err error) {
	reply := message{stream: ofPlugin, call: number, kind: response}
	switch {
	case errors.Is(err, errUnknown):
		reply.data = encodeAnswer(codeUnimplemented, err.Error(), nil)
	case err != nil:
		reply.data = encodeAnswer(codeInvalid, err.Error(), nil)
	default:
		w.await(ctx, s.plugin)
		reply.data = encodeAnswer(codeOK, "", w.payload)
	}
	if err := s.send(&reply); err != nil {
		s.plugin.log.Debug("cannot answer the runtime", slog.Any("error", err))
		_ = s.conn.Close()
		return
	}
	if err == nil && w.then != nil {
		w.then()
	}
}
