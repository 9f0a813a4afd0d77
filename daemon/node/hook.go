// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/hook/nft"
)

const hookAuto = "auto"

// chooseHook returns the hook that the configuration asks for, and says why it
// is this one.
func chooseHook(wanted string) (hook.Hook, api.HookStatus, error) {
	if wanted == string(hook.Module) {
		return nil, api.HookStatus{}, fmt.Errorf("hook kmod: this version of nsqueued "+
			"has no support for the kernel module, use --hook nft: %w", hook.ErrNotSupported)
	}
	reason := "asked for"
	if wanted == hookAuto {
		reason = "kernel module not supported by this version"
	}
	h, err := nft.New()
	if err != nil {
		return nil, api.HookStatus{}, fmt.Errorf("hook nft: %w", err)
	}
	return h, api.HookStatus{Kind: string(h.Kind()), Detail: h.Describe(), Reason: reason}, nil
}
