// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/florianl/go-nfqueue/v2"
)

// reader is the classic NFQUEUE program: it reads queue 80 of the netns it
// runs in, and accepts everything.
type reader struct {
	queue   *nfqueue.Nfqueue
	stop    context.CancelFunc
	packets atomic.Int64
}

func openReader(s *screen) (*reader, error) {
	queue, err := nfqueue.Open(&nfqueue.Config{
		NfQueue: 80, MaxPacketLen: 0xffff, MaxQueueLen: 1024,
		Copymode: nfqueue.NfQnlCopyPacket, WriteTimeout: time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("open queue 80 in the node's netns: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &reader{queue: queue, stop: stop}
	onPacket := func(a nfqueue.Attribute) int {
		s.say("   packet: %d, origin mark: %#08x", r.packets.Add(1), mark(a))
		_ = queue.SetVerdict(*a.PacketID, nfqueue.NfAccept)
		return 0
	}
	onError := func(err error) int {
		if errors.Is(err, os.ErrClosed) || ctx.Err() != nil {
			return 1
		}
		return 0
	}
	if err := queue.RegisterWithErrorFunc(ctx, onPacket, onError); err != nil {
		r.close()
		return nil, fmt.Errorf("bind queue 80 in the node's netns: %w", err)
	}
	return r, nil
}

func mark(a nfqueue.Attribute) uint32 {
	if a.Mark == nil {
		return 0
	}
	return *a.Mark
}

func (r *reader) count() int64 { return r.packets.Load() }

func (r *reader) close() {
	r.stop()
	_ = r.queue.Close()
}
