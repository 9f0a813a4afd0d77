// SPDX-License-Identifier: Apache-2.0

// Changing-rules is an nsqueued whose rules change while it runs: each SIGHUP
// blocks port 8080, or opens it again.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/node"
)

const port = 8080

// rules settle each flow with the first verdict, which holds until they change.
type rules struct {
	blocked atomic.Bool
	changes chan struct{}
}

func (*rules) Needs() inspect.Needs       { return inspect.Needs{Settles: true} }
func (r *rules) Changes() <-chan struct{} { return r.changes }

// Inspect looks at both ports: after a change, either direction may come first.
func (r *rules) Inspect(p *inspect.Packet) inspect.Verdict {
	f, ok := p.Flow()
	if ok && r.blocked.Load() && (f.SourcePort == port || f.DestinationPort == port) {
		return inspect.Verdict{Action: inspect.Drop, Settle: true}
	}
	return inspect.Verdict{Action: inspect.Accept, Settle: true}
}

// follow changes the rules first, and then has the settled flows inspected again.
func (r *rules) follow(hangups <-chan os.Signal) {
	for range hangups {
		r.blocked.Store(!r.blocked.Load())
		r.changes <- struct{}{}
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	r := &rules{changes: make(chan struct{})}
	go r.follow(hangups)
	if err := node.Run(ctx, node.DefaultConfig(), r); err != nil {
		fmt.Fprintln(os.Stderr, "changing-rules:", err)
		os.Exit(1)
	}
}
