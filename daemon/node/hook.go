// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/hook/kmod"
	"github.com/nsqueue/nsqueue/daemon/internal/hook/nft"
)

const hookAuto = "auto"

// choice is the hook that serves, and why it is this one.
type choice struct {
	hook     hook.Hook
	fallback hook.Hook // nil unless the choice was ours
	reason   string
}

func (c *choice) status() api.HookStatus {
	return api.HookStatus{
		Kind: string(c.hook.Kind()), Detail: c.hook.Describe(), Reason: c.reason,
		Persistent: c.hook.Persistent(),
	}
}

// chooseHook returns the hook that the configuration asks for.
func chooseHook(wanted, kmodPath string) (*choice, error) {
	switch hook.Kind(wanted) {
	case hook.NFTables:
		return chooseNFTables("asked for")
	case hook.Module:
		if err := kmod.Load(kmodPath); err != nil {
			return nil, fmt.Errorf("hook kmod: %w", err)
		}
		h, err := kmod.New()
		if err != nil {
			return nil, fmt.Errorf("hook kmod: %w", err)
		}
		return &choice{hook: h, reason: "asked for"}, nil
	}
	if !kmod.Loaded() {
		return chooseNFTables("kernel module not loaded")
	}
	return chooseLoaded()
}

func chooseNFTables(reason string) (*choice, error) {
	h, err := nft.New()
	if err != nil {
		return nil, fmt.Errorf("hook nft: %w", err)
	}
	return &choice{hook: h, reason: reason}, nil
}

// chooseLoaded takes the module that is loaded, if it is one that we know, and
// nftables in reserve, if the kernel has it.
func chooseLoaded() (*choice, error) {
	module, err := kmod.New()
	if err != nil {
		return chooseNFTables(err.Error())
	}
	c := &choice{hook: module, reason: "kernel module is loaded"}
	reserve, err := nft.New()
	if err != nil {
		c.reason += "; nothing in reserve: " + err.Error()
		return c, nil
	}
	c.fallback = reserve
	return c, nil
}
