// SPDX-License-Identifier: Apache-2.0

// Header-only is an nsqueued that counts the bytes of each pod. It wants the
// headers of packets alone.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/node"
)

// headers is enough for IPv6 and the longest header of TCP.
const headers = 40 + 60

type traffic struct{ pod, protocol string }

type total struct{ packets, bytes, copied int }

// meter counts what it accepts. Queues are served at the same time.
type meter struct {
	mu     sync.Mutex
	totals map[traffic]total
}

// Needs says how many bytes of each packet the kernel has to copy.
func (*meter) Needs() inspect.Needs { return inspect.Needs{CopyRange: headers} }

// Inspect counts and accepts. Length is that of the whole packet.
func (m *meter) Inspect(p *inspect.Packet) inspect.Verdict {
	f, _ := p.Flow()
	key := traffic{p.Attachment.PodName, inspect.ProtocolName(f.Protocol)}
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.totals[key]
	m.totals[key] = total{t.packets + 1, t.bytes + p.Length, t.copied + len(p.Payload)}
	return inspect.Verdict{Action: inspect.Accept}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	m := &meter{totals: make(map[traffic]total)}
	err := node.Run(ctx, node.DefaultConfig(), m)
	for key, t := range m.totals {
		fmt.Printf("%s %s %+v\n", key.pod, key.protocol, t)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "header-only:", err)
		os.Exit(1)
	}
}
