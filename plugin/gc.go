// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// gc has the daemon detach what the runtime no longer has. A call without a list
// is refused: as an empty list it would end the inspection of every pod.
func (p *process) gc() error {
	c, err := p.readConfig()
	if err != nil {
		return err
	}
	if err := c.requireVersion("GC", "1.1.0"); err != nil {
		return err
	}
	if !c.isGC {
		return types.NewError(types.ErrInvalidNetworkConfig,
			keyValidAttachments+" is missing: the attachments to keep are not known", "")
	}
	client := api.NewClient(c.Socket)
	req := api.CollectRequest{Network: c.network, Valid: c.valid}
	err = p.callDaemon(c.FailurePolicy, func(ctx context.Context) error {
		r, err := client.Collect(ctx, req)
		if r.Detached > 0 {
			p.log.Info("stale attachments detached", slog.Int("attachments", r.Detached))
		}
		return err
	})
	return p.applyPolicy(c.FailurePolicy, err)
}
