// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// check asks whether the pod's packets are really inspected. If the daemon says
// that they are not, that is an error under both policies; that it does not answer
// is one under Fail only.
func (p *process) check() error {
	c, err := p.readPodCall("CHECK", "0.4.0")
	if err != nil {
		return err
	}
	defer c.netns.Close()
	if !c.Inspect {
		return nil
	}
	client := api.NewClient(c.config.Socket)
	err = p.callDaemon(c.Policy, func(ctx context.Context) error {
		return client.Check(ctx, c.key)
	})
	return p.applyPolicy(c.Policy, err, api.CodeNotAttached, api.CodeNotInspected)
}
