// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/external/proto"
)

// errBye is that the inspector ends in order.
var errBye = errors.New("the inspector said BYE")

// receive takes messages until the connection ends, and returns why.
func (l *link) receive() error {
	var buf [proto.MaxReceived + 1]byte // a longer message is cut, and found to be wrong
	for {
		n, err := l.conn.Read(buf[:])
		if err != nil {
			return err
		}
		if n == 0 {
			return io.EOF
		}
		switch t, err := proto.TypeOf(buf[:n]); {
		case err != nil:
			return err
		case t == proto.TypeBye:
			if err := l.bye(buf[:n]); err != nil {
				return err
			}
			continue
		case t != proto.TypeVerdicts:
			return fmt.Errorf("%w: type %d", proto.ErrMalformed, t)
		}
		v, err := proto.ParseVerdicts(buf[:n])
		if err != nil {
			return err
		}
		if err := l.answer(&v); err != nil {
			return err
		}
	}
}

// bye has no more packets go to an inspector that ends. It may answer those that it has.
func (l *link) bye(b []byte) error {
	if _, _, err := proto.ParseBye(b); err != nil {
		return err
	}
	l.stopTaking()
	if !l.isBusy() {
		return errBye
	}
	return l.conn.SetReadDeadline(time.Now().Add(l.server.config.Budget))
}

// answer gives packets their verdicts.
func (l *link) answer(v *proto.Verdicts) error {
	err := l.collect(v)
	l.server.counters.answered.Add(uint64(len(l.released.held)))
	l.released.release()
	if l.caughtUp {
		l.caughtUp = false
		l.server.events.caughtUp(l)
	}
	return err
}

// collect finds the packets of verdicts.
func (l *link) collect(v *proto.Verdicts) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.sent[v.Sequence]
	if b == nil || !b.isSent {
		return l.answerLate(v)
	}
	for i := range v.Len() {
		one := v.At(i)
		at := b.find(one.ID)
		if at < 0 {
			return fmt.Errorf("%w: packet %d of batch %d is unknown, or has a verdict",
				proto.ErrMalformed, one.ID, v.Sequence)
		}
		b.open[at] = false
		b.left--
		l.released.add(b.held[at], l.server.verdict(&one, &b.before[at]))
	}
	if b.left == 0 {
		l.done(b)
	}
	return nil
}

// verdict returns what the inspector says, with the marks of before.
func (s *Server) verdict(v *proto.Verdict, before *inspect.Verdict) inspect.Verdict {
	r := inspect.Verdict{Reason: s.reason, Mark: before.Mark, MarkMask: before.MarkMask}
	switch v.Action {
	case proto.ActionAccept, proto.ActionSettleAccept:
		r.Action = inspect.Accept
	case proto.ActionDrop, proto.ActionSettleDrop:
		r.Action = inspect.Drop
	case proto.ActionReject, proto.ActionSettleReject:
		r.Action = inspect.Reject
	default:
		return s.failed(before)
	}
	r.Settle = v.Action >= proto.ActionSettleAccept
	r.Mark = r.Mark&^v.MarkMask | v.Mark&v.MarkMask
	r.MarkMask |= v.MarkMask
	return r
}
