// SPDX-License-Identifier: Apache-2.0

// No-telnet is an nsqueued that drops every TCP packet to port 23.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/node"
)

// noTelnet accepts all but telnet, and all that it cannot read.
func noTelnet(p *inspect.Packet) inspect.Verdict {
	f, ok := p.Flow()
	if ok && f.Protocol == inspect.ProtoTCP && f.DestinationPort == 23 {
		return inspect.Verdict{Action: inspect.Drop}
	}
	return inspect.Verdict{Action: inspect.Accept}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := node.Run(ctx, node.DefaultConfig(), inspect.Func(noTelnet)); err != nil {
		fmt.Fprintln(os.Stderr, "no-telnet:", err)
		os.Exit(1)
	}
}
