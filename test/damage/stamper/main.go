// SPDX-License-Identifier: Apache-2.0

// Command stamper is an nsqueued whose inspector stamps each UDP datagram that
// comes to a pod, so that the receiver can tell whether a packet was inspected.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/node"
	"github.com/nsqueue/nsqueue/test/damage/load"
)

func main() {
	config := flag.String("config", "", "configuration `file`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	c, err := node.LoadConfig(*config)
	if err == nil {
		err = node.Run(ctx, c, stamper{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "stamper:", err)
		stop()
		os.Exit(1)
	}
}

type stamper struct{}

// Needs declares that packets are replaced.
func (stamper) Needs() inspect.Needs { return inspect.Needs{Modifies: true} }

// Inspect stamps datagrams of the load, and accepts everything.
func (stamper) Inspect(p *inspect.Packet) inspect.Verdict {
	v := inspect.Verdict{Action: inspect.Accept}
	f, ok := p.Flow()
	if !ok || f.Protocol != inspect.ProtoUDP || p.Direction != inspect.In {
		return v
	}
	if at := len(p.Payload) - load.Size; at > 0 {
		stamped := append([]byte(nil), p.Payload...)
		load.Stamp(stamped[at:])
		v.Payload = stamped
	}
	return v
}
