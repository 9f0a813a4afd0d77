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
	return serve(ctx, l, b, log, timeouts{
		header: limit, body: limit, idle: limit, answer: limit, grace: limit,
	})
}

// NewRightsConn is the connection that the client writes to.
func NewRightsConn(c *net.UnixConn, file *os.File) net.Conn {
	return &rightsConn{UnixConn: c, file: file}
}

// MaxBody is the largest body of a request.
const MaxBody = maxBody
