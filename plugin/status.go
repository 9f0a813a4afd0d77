// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// status says whether an ADD would succeed. Under Ignore it would, with or
// without a daemon, and an error would only make the node NotReady.
func (p *process) status() error {
	c, err := p.readConfig()
	if err != nil {
		return err
	}
	if err := c.requireVersion("STATUS", "1.1.0"); err != nil {
		return err
	}
	client := api.NewClient(c.socket)
	err = p.retry(p.limits.status, isBusy, func(ctx context.Context) error {
		_, err := client.Status(ctx)
		return err
	})
	if err == nil {
		return nil
	}
	if c.policy == api.Ignore {
		p.log.Warn("error ignored because failurePolicy is Ignore", errorAttr(err))
		return nil
	}
	e := cniError(err)
	if e.Code == types.ErrLimitedConnectivity {
		return e
	}
	return types.NewError(types.ErrPluginNotAvailable, e.Msg, e.Details)
}
