// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/boottime"
)

// add has the daemon inspect the pod and returns prevResult, byte for byte. If
// the daemon does not answer, the call goes to the spool under Ignore; under Fail
// the runtime is told to try again.
func (p *process) add() ([]byte, error) {
	called := boottime.Now()
	c, err := p.readPodCall("ADD", "0.3.0")
	if err != nil {
		return nil, err
	}
	defer c.netns.Close()
	if c.Refusal != "" {
		p.reportWarnings(c, []string{c.Refusal})
		return nil, types.NewError(types.ErrInvalidNetworkConfig, c.Refusal,
			"correct or remove the annotation: under failure policy Fail a pod with an invalid "+
				"annotation does not start")
	}
	if !c.Inspect {
		p.log.Info("pod is not inspected: it is excluded")
		p.reportWarnings(c, c.Warnings)
		return c.config.prevResult, nil
	}
	client, req := api.NewClient(c.config.Socket), p.attachRequest(c)
	err = p.callDaemon(c.Policy, func(ctx context.Context) error {
		_, err := client.Attach(ctx, req, c.netns)
		return err
	})
	if err := p.applyPolicy(c.Policy, err); err != nil {
		return nil, err
	}
	if isStarting(err) { // tolerated, so that the policy is Ignore
		p.spoolAdd(c, req, called)
	}
	return c.config.prevResult, nil
}

func (p *process) attachRequest(c *podCall) api.AttachRequest {
	req := api.AttachRequest{
		Key:           c.key,
		Network:       c.config.network,
		Origin:        api.OriginCNI,
		Pod:           c.pod,
		NetnsPath:     c.netns.Name(),
		FailurePolicy: c.Policy,
		Warnings:      c.Warnings,
		Annotations:   c.Annotations,
	}
	if trace := p.getenv("TRACEPARENT"); api.ValidTraceparent(trace) {
		req.Traceparent = trace
	}
	return req
}

// reportWarnings tells the daemon what is wrong with a pod that it will not
// inspect. The pod does not wait for a daemon that is not there.
func (p *process) reportWarnings(c *podCall, warnings []string) {
	if len(warnings) == 0 {
		return
	}
	ctx, cancel := p.withTimeout(context.Background(), p.limits.warn)
	defer cancel()
	report := api.WarningReport{Key: c.key, Pod: c.pod, Warnings: warnings}
	if err := api.NewClient(c.config.Socket).Warn(ctx, report); err != nil {
		p.log.Warn("warnings not reported", errorAttr(err))
	}
}
