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
	at := len(p.Payload) - load.Size
	if at == headers(p.Payload) {
		stamped := append([]byte(nil), p.Payload...)
		load.Stamp(stamped[at:])
		v.Payload = stamped
	}
	return v
}

// headers returns how long those of a datagram are that has no options: what is longer is
// none of the load.
func headers(packet []byte) int {
	const ipv4, ipv6, udp = 20, 40, 8
	if packet[0]>>4 == 6 {
		return ipv6 + udp
	}
	return ipv4 + udp
}
