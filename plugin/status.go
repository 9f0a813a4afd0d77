// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// status says whether an ADD would succeed (50), and whether running pods have
// their network (51). Under Ignore both are so, with or without a daemon, and an
// error would only make the node NotReady.
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
