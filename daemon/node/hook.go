// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/hook/kmod"
	"github.com/nsqueue/nsqueue/daemon/internal/hook/nft"
	"github.com/nsqueue/nsqueue/daemon/internal/kernel"
)

const hookAuto = "auto"

// choice is the hook that serves, and why it is this one.
type choice struct {
	hook     hook.Hook
	fallback hook.Hook // nil unless the choice was ours
	reason   string
	flaws    []api.Flaw
}

func (c *choice) status() api.HookStatus {
	return api.HookStatus{
		Kind: string(c.hook.Kind()), Detail: c.hook.Describe(), Reason: c.reason,
		Persistent: c.hook.Persistent(), Flaws: c.flaws,
	}
}

func (c *choice) flaw(what, remedy string) {
	c.flaws = append(c.flaws, api.Flaw{What: what, Remedy: remedy})
}

// chooseHook returns the hook that the configuration asks for.
func chooseHook(config *Config) (*choice, error) {
	c, err := chooseKind(config)
	if err != nil {
		return nil, err
	}
	release, err := kernel.Release()
	if err == nil && !kernel.TakesPriority(release) {
		c.flaw("no flow can be settled, all packets stay queued: Linux "+release+
			" takes no priority with verdicts",
			"Use Linux 5.18 or newer where flows are to be settled.")
	}
	return c, err
}

func chooseKind(config *Config) (*choice, error) {
	switch hook.Kind(config.Hook) {
	case hook.NFTables:
		return chooseNFTables("asked for")
	case hook.Module:
		if err := kmod.Load(config.KmodPath); err != nil {
			return nil, fmt.Errorf("hook kmod: %w", err)
		}
		h, err := kmod.New(config.KmodSysctls)
		if err != nil {
			return nil, fmt.Errorf("hook kmod: %w", err)
		}
		return chooseModule(h, "asked for"), nil
	}
	if !kmod.Loaded() {
		return chooseNFTables("kernel module not loaded")
	}
	return chooseLoaded(config.KmodSysctls)
}

func chooseNFTables(reason string) (*choice, error) {
	h, err := nft.New()
	if err != nil {
		return nil, fmt.Errorf("hook nft: %w", err)
	}
	return &choice{hook: h, reason: reason}, nil
}

func chooseModule(h *kmod.Hook, reason string) *choice {
	c := &choice{hook: h, reason: reason}
	if !h.Settles() {
		c.flaw("the kernel module is too old to settle flows, all of them stay queued",
			replaceModule)
	}
	return c
}

const replaceModule = "Install the nsqueue.ko of nsqueued's version, unload the old one " +
	"(rmmod nsqueue; where it is in use, first echo 1 > " +
	"/sys/module/nsqueue/parameters/queue_bypass, which lets packets of all pods pass), load it " +
	"(modprobe nsqueue), and restart nsqueued."

// chooseLoaded takes the module that is loaded, if it is one that we know, and
// nftables in reserve, if the kernel has it.
func chooseLoaded(sysctls string) (*choice, error) {
	module, err := kmod.New(sysctls)
	if err != nil {
		c, nftErr := chooseNFTables(err.Error())
		if nftErr != nil {
			return nil, errors.Join(err, nftErr)
		}
		remedy := replaceModule
		if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrNotExist) {
			remedy = "Mount the node's /proc/sys/net, and name that directory in kmodSysctls."
		}
		c.flaw("the kernel module is loaded, and not used: "+err.Error(), remedy)
		return c, nil
	}
	c := chooseModule(module, "kernel module is loaded")
	reserve, err := nft.New()
	if err != nil {
		c.flaw("if the kernel module goes, nothing takes its place: "+err.Error(),
			"Use a kernel with what is missing, or --hook kmod to do without.")
		return c, nil
	}
	c.fallback = reserve
	return c, nil
}

// canSettle says whether flows are to be settled, and the kernel can do it.
func canSettle(c *Config, needs inspect.Needs) (bool, error) {
	if !needs.Settles && c.SettleAfterPackets == 0 {
		return false, nil
	}
	release, err := kernel.Release()
	return kernel.TakesPriority(release), err
}
