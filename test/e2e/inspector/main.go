// SPDX-License-Identifier: Apache-2.0

// Inspector is the nsqueued of the tests that run what the documentation shows: it drops
// what goes to the port of telnet.
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

func noTelnet(p *inspect.Packet) inspect.Verdict {
	if f, ok := p.Flow(); ok && f.DestinationPort == 23 {
		return inspect.Verdict{Action: inspect.Drop}
	}
	return inspect.Verdict{Action: inspect.Accept}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := node.Run(ctx, node.DefaultConfig(), inspect.Func(noTelnet)); err != nil {
		fmt.Fprintln(os.Stderr, "inspector:", err)
		os.Exit(1)
	}
}
