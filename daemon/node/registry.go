// SPDX-License-Identifier: Apache-2.0

package node

import (
	"log/slog"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/programs"
	"github.com/nsqueue/nsqueue/daemon/internal/registry"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

func newRegistry(
	c *Config, store *state.Store, fds *fdstore.Store,
	inspector inspect.Inspector, labels func(containerID string) map[string]string,
	timings registry.Timings, kept *programs.Programs, outside *outside, log *slog.Logger,
) (*registry.Registry, error) {
	directions, err := c.directions()
	if err != nil {
		return nil, err
	}
	protocols, err := c.protocols()
	if err != nil {
		return nil, err
	}
	needs := needsOf(inspector)
	if _, ok := inspector.(inspect.AttachmentDeclarer); ok {
		needs.Settles = true // where it says so of an attachment
	}
	settling, err := canSettle(c, needs)
	if err != nil {
		return nil, err
	}
	queue := c.Queue.nfqueue()
	queue.Modifies, queue.Defers = needs.Modifies, needs.Defers
	queue.SocketUID = needs.SocketUID
	switch {
	case needs.Modifies: // what replaces a packet replaces all of it
		queue.CopyRange = nfqueue.MaxCopyRange
	case needs.CopyRange > 0:
		queue.CopyRange = min(needs.CopyRange, nfqueue.MaxCopyRange)
	}
	return registry.New(registry.Options{
		Inspector: inspector, Labels: labels, Log: log,
		Store: store, Descriptors: fds,
		FailurePolicy: c.FailurePolicy, Queue: queue, Queues: c.Queue.Count,
		BufferTotal: c.Queue.ReceiveBufferTotal, Budget: time.Duration(c.InspectBudget),
		Coalesce:    time.Duration(c.Queue.Coalesce),
		Settle:      c.settle(settling),
		SettleAfter: c.SettleAfterPackets, Timings: timings,
		Programs: kept, ProgramsOf: outside.programsOf,
		ProgramFDs: outside.programFDs(),
		Directions: directions, Protocols: protocols, MarkMask: c.MarkMask,
	})
}

// needsOf returns what the inspector declares.
func needsOf(i inspect.Inspector) inspect.Needs {
	if d, ok := i.(inspect.Declarer); ok {
		return d.Needs()
	}
	return inspect.Needs{}
}
