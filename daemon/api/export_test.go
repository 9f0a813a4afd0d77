// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"log/slog"
	"net"
	"os"
	"time"
)

// ServeWithin is Serve with one limit for everything that clients do.
func ServeWithin(
	ctx context.Context, l *net.UnixListener, b Backend, log *slog.Logger, limit time.Duration,
) error {
	limits := defaultLimits()
	limits.header, limits.body, limits.idle = limit, limit, limit
	limits.answer, limits.grace, limits.silence = limit, limit, limit
	return serve(ctx, l, b, log, limits)
}

// The default bounds.
func MaxConns() int   { return defaultLimits().conns }
func MaxWatches() int { return defaultLimits().watches }

// NewRightsConn is the connection that the client writes to.
func NewRightsConn(c *net.UnixConn, file *os.File) net.Conn {
	return &rightsConn{UnixConn: c, file: file}
}

// MaxBody is the largest body of a request.
const MaxBody = maxBody

// MaxObserverConns is how many connections observers may have.
func MaxObserverConns() int { return observerLimits().conns }

// ParseWatch reads the query of a watch call.
func ParseWatch(query string) (WatchRequest, error) { return parseWatch(query) }

// Query is the inverse of ParseWatch.
func (r *WatchRequest) Query() string { return r.query() }

// ParseSupervisorState reads what a supervisor answers.
func ParseSupervisorState(b []byte) (SupervisorState, error) { return parseSupervisorState(b) }
