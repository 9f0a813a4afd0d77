// SPDX-License-Identifier: Apache-2.0

// Dns-only is an nsqueued that lets pods talk to name servers, and to nothing else.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/node"
)

// dnsOnly accepts packets whose port at the far end is that of DNS.
func dnsOnly(p *inspect.Packet) inspect.Verdict {
	f, ok := p.Flow()
	far := f.DestinationPort
	if p.Direction == inspect.In {
		far = f.SourcePort
	}
	if ok && far == 53 && (f.Protocol == inspect.ProtoUDP || f.Protocol == inspect.ProtoTCP) {
		return inspect.Verdict{Action: inspect.Accept}
	}
	return inspect.Verdict{Action: inspect.Drop}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	config := node.DefaultConfig()
	// Where no verdict comes, a packet is dropped, too.
	config.FailurePolicy = api.Fail
	if err := node.Run(ctx, config, inspect.Func(dnsOnly)); err != nil {
		fmt.Fprintln(os.Stderr, "dns-only:", err)
		os.Exit(1)
	}
}
