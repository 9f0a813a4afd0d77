// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"net/http"
)

// QueueState is what the kernel says of one queue at this moment.
type QueueState struct {
	Queue

	// Bound: the daemon's reader holds it.
	Bound bool `json:"bound"`
	// Waiting packets have no verdict so far.
	Waiting uint32 `json:"waiting"`
	// QueueDropped packets found the queue full, UserDropped the receive buffer of
	// the reader's socket, since the queue was bound. Under Ignore the kernel lets
	// pass what finds the queue full, and does not count that.
	QueueDropped uint64 `json:"queueDropped"`
	UserDropped  uint64 `json:"userDropped"`
}

// HookCounters are what the hook did in the attachment's netns, without asking
// the daemon, since the daemon has started.
type HookCounters struct {
	// Queued packets were sent to a queue.
	Queued uint64 `json:"queued"`
	// Exempt packets passed because they are never selected.
	Exempt uint64 `json:"exempt"`
	// Settled packets passed or were dropped because their flow is settled.
	Settled uint64 `json:"settled"`
}

// Description is all that is known of one attachment.
type Description struct {
	Attachment

	QueueStates  []QueueState `json:"queueStates"`
	HookCounters HookCounters `json:"hookCounters"`
	// Problem says why packets are not inspected as they should be; empty for
	// nothing.
	Problem string `json:"problem,omitempty"`
	// Events are those about the attachment that are remembered, the oldest first.
	Events []Event `json:"events"`
}

// Describe returns all that is known of an attachment.
func (c *Client) Describe(ctx context.Context, key Key) (Description, error) {
	var d Description
	err := c.callKey(ctx, http.MethodGet, key, "", &d)
	return d, err
}

func (s *server) describe(r *http.Request) (any, error) {
	key, err := keyOf(r)
	if err != nil {
		return nil, err
	}
	d, err := s.observed.Describe(r.Context(), key)
	if err != nil {
		return nil, err
	}
	d.QueueStates = append([]QueueState{}, d.QueueStates...) // as in list
	d.Events = append([]Event{}, d.Events...)
	return d, nil
}

// keyOf returns the key in the path of a call about one attachment.
func keyOf(r *http.Request) (Key, error) {
	key := Key{ContainerID: r.PathValue("id"), Ifname: r.PathValue("ifname")}.Canonical()
	if err := key.Validate(); err != nil {
		return Key{}, Errorf(CodeInvalidConfig, "%s", err)
	}
	return key, nil
}
