// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// add has the daemon inspect the pod and returns prevResult, byte for byte.
func (p *process) add() ([]byte, error) {
	c, err := p.readPodCall("ADD", "0.3.0")
	if err != nil {
		return nil, err
	}
	defer c.netns.Close()
	if !c.inspect {
		p.log.Info("pod is not inspected")
		return c.config.prevResult, nil
	}
	client := api.NewClient(c.config.socket)
	req := api.AttachRequest{
		Key:           c.key,
		Network:       c.config.network,
		Origin:        api.OriginCNI,
		Pod:           c.pod,
		NetnsPath:     c.netns.Name(),
		FailurePolicy: c.policy,
		Warnings:      c.warnings,
	}
	err = p.callDaemon(c.policy, func(ctx context.Context) error {
		_, err := client.Attach(ctx, req, c.netns)
		return err
	})
	if err := p.tolerate(c.policy, err); err != nil {
		return nil, err
	}
	return c.config.prevResult, nil
}
