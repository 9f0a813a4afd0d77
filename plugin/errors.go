// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// cniError returns the error that the runtime is told: the plugin's own and the
// daemon's as they are, 11 where there is no daemon, 999 for the rest.
func cniError(err error) *types.Error {
	if e, ok := errors.AsType[*types.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*api.Error](err); ok {
		return types.NewError(uint(e.Code), e.Msg, e.Details)
	}
	if errors.Is(err, api.ErrUnavailable) {
		return types.NewError(types.ErrTryAgainLater, err.Error(),
			"start nsqueued on this node, or correct \"socket\" in the CNI configuration; "+
				"with failurePolicy \"Ignore\" pods start without it, and without inspection")
	}
	return types.NewError(types.ErrInternal, err.Error(), "")
}

// applyPolicy applies the failure policy to a call's error: under Ignore a pod
// keeps its network whatever happens to nsqueue, with a log line. Errors that
// no time heals are errors under both policies: the configuration, the netns,
// a conflict, and those in also.
func (p *process) applyPolicy(policy api.Policy, err error, also ...api.Code) error {
	if err == nil || policy == api.Fail {
		return err
	}
	lasting := append([]api.Code{
		api.CodeUnsupportedField, api.CodeDecoding, api.CodeInvalidConfig,
		api.CodeInvalidNetns, api.CodeConflict,
	}, also...)
	if slices.Contains(lasting, api.Code(cniError(err).Code)) {
		return err
	}
	p.log.Warn("error ignored because failurePolicy is Ignore", errorAttr(err))
	return nil
}
