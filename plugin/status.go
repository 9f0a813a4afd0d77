// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// status fails with 50 if an ADD would fail, and with 51 if running pods lose
// packets. Under Ignore neither happens, with or without a daemon, and an error
// would only make the node NotReady.
func (p *process) status() error {
	c, err := p.readConfig()
	if err != nil {
		return err
	}
	if err := c.requireVersion("STATUS", "1.1.0"); err != nil {
		return err
	}
	client := api.NewClient(c.Socket)
	err = p.retry(p.limits.status, isBusy, func(ctx context.Context) error {
		s, err := client.Status(ctx)
		if err != nil {
			return err
		}
		return s.Ready()
	})
	if err == nil {
		return nil
	}
	if c.FailurePolicy == api.Ignore {
		p.log.Warn("error ignored because failurePolicy is Ignore", errorAttr(err))
		return nil
	}
	e := cniError(err)
	if e.Code == types.ErrLimitedConnectivity {
		return e
	}
	return types.NewError(types.ErrPluginNotAvailable, e.Msg, e.Details)
}
