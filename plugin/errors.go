// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// cniError returns the error for the runtime: errors of the plugin and of the
// daemon as they are, 11 if no daemon answers, 999 for all others.
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
				"with failurePolicy \"Ignore\" pods would start uninspected")
	}
	return types.NewError(types.ErrInternal, err.Error(), "")
}

// applyPolicy applies the failure policy to a call's error: under Ignore it logs
// the error and the pod keeps its network. Lasting errors are errors under both
// policies: of the configuration, of the netns, a conflict, and those in also.
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
