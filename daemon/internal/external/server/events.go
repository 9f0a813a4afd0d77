// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/internal/printable"
)

// events tell people of an inspector, of each kind at most one in a while.
type events struct {
	server *Server
	mu     sync.Mutex
	kinds  map[string]*said
}

// said is when something was said last, and how often it was not since.
type said struct {
	last time.Time
	more int
}

// quiet is how long nothing of a kind is said again.
const quiet = 5 * time.Second

func (e *events) report(level slog.Level, message string) { e.server.Report(level, message) }

// say reports something of a kind, unless that was said just before.
func (e *events) say(kind string, level slog.Level, format string, args ...any) {
	e.mu.Lock()
	s := e.kinds[kind]
	if s == nil {
		s = new(said)
		e.kinds[kind] = s
	}
	if !s.last.IsZero() && time.Since(s.last) < quiet {
		s.more++
		e.mu.Unlock()
		return
	}
	more := s.more
	s.last, s.more = time.Now(), 0
	e.mu.Unlock()
	text := "inspector " + e.server.config.Name + ": " + fmt.Sprintf(format, args...)
	if more > 0 {
		text += fmt.Sprintf(" (and %d times before)", more)
	}
	e.report(level, text)
}

func (e *events) connected(l *link) {
	e.say("connected", slog.LevelInfo, "connected: %s, user %d, %s", l.peer, l.peer.uid,
		printable.Text(l.hello.Name))
}

func (e *events) gone(l *link, err error) {
	level, why := slog.LevelWarn, "it has closed the connection"
	switch {
	case errors.Is(err, errBye):
		level, why = slog.LevelInfo, "it said BYE"
	case !errors.Is(err, io.EOF):
		why = printable.Text(err.Error())
	}
	e.say("gone", level, "%s is gone: %s. Its packets get onFailure: %s", l.peer, why,
		e.server.config.Failure)
}

func (e *events) stalled(l *link, packets int) {
	e.say("stalled", slog.LevelWarn, "%s has not answered within %v about %d packets. They, "+
		"and those that come until it has caught up, get onFailure: %s", l.peer,
		e.server.config.Budget, packets, e.server.config.Failure)
}

func (e *events) caughtUp(l *link) {
	e.say("caught up", slog.LevelInfo, "%s has caught up", l.peer)
}

func (e *events) refused(err error) {
	e.say("refused", slog.LevelWarn, "refused who has connected: %s", printable.Text(err.Error()))
}
