// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/hook/kmod"
	"github.com/nsqueue/nsqueue/daemon/internal/kernel"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/place"
)

// kernel tries out what the kernel has, as the daemon does at its start.
func (k *checker) kernel() {
	release, err := kernel.Release()
	if err != nil {
		k.add(api.FindingUnknown, checkKernel, "", "not checked: "+err.Error(), "")
		return
	}
	if !kernel.AtLeast(release, 5, 14) {
		k.add(api.FindingWrong, checkKernel, "", "Linux "+release+" is too old: it has no netns "+
			"cookies", "Use Linux 5.14 or newer.")
		return
	}
	if !place.Has(unix.CAP_NET_ADMIN) || !place.Has(unix.CAP_SYS_ADMIN) {
		k.add(api.FindingUnknown, checkKernel, "", "not checked: that takes CAP_NET_ADMIN and "+
			"CAP_SYS_ADMIN", "Run the check with the capabilities of nsqueued.")
		return
	}
	if err := k.tryQueue(); err != nil {
		k.add(api.FindingWrong, checkKernel, "", "Linux "+release+": "+err.Error(),
			"Use a kernel with CONFIG_NETFILTER_NETLINK_QUEUE; load its module nfnetlink_queue.")
	} else {
		k.ok(checkKernel, "", "Linux %s, a queue can be bound", release)
	}
	k.hook()
}

// tryQueue binds a queue in a netns that ends with it.
func (k *checker) tryQueue() error {
	ns, err := netns.New()
	if err != nil {
		return err
	}
	defer ns.Close()
	q, err := nfqueue.Open(ns, k.config.Queue.nfqueue())
	if err != nil {
		return err
	}
	return errors.Join(q.Bind(), q.Close())
}

// hook chooses as the daemon would, but for loading the module.
func (k *checker) hook() {
	if hook.Kind(k.config.Hook) == hook.Module && !kmod.Loaded() {
		k.loadable()
		return
	}
	c, err := chooseHook(k.config)
	if err != nil {
		k.add(api.FindingWrong, checkHook, "", err.Error(),
			"Use a kernel with what is missing, or the kernel module nsqueue.ko (hook: kmod).")
		return
	}
	s := c.status()
	for _, f := range s.Flaws {
		k.add(api.FindingWarning, checkHook, "", f.What, f.Remedy)
	}
	if k.config.FailurePolicy == api.Fail && !s.Persistent {
		k.add(api.FindingWarning, checkHook, "", "this hook ends with nsqueued, so that "+
			"packets of pods under Fail pass then", "Run nsqueued under systemd or "+
			"`nsqueued supervise`, load the kernel module, or use Linux 6.9 or newer.")
	}
	k.ok(checkHook, "", "%s (%s), because: %s", s.Kind, s.Detail, s.Reason)
}

// loadable says whether the module could be loaded.
func (k *checker) loadable() {
	file, err := kmod.Find(k.config.KmodPath)
	switch {
	case err != nil:
		k.add(api.FindingWrong, checkHook, k.config.KmodPath, err.Error(),
			"Install nsqueue.ko for the running kernel (and mount /lib/modules, in a container), "+
				"or use hook: auto.")
	case !place.Has(unix.CAP_SYS_MODULE):
		k.add(api.FindingWrong, checkHook, file, "the module is not loaded, and CAP_SYS_MODULE is "+
			"missing", "Load it beforehand (modprobe nsqueue), or add the capability.")
	default:
		k.ok(checkHook, file, "nsqueued will load this module")
	}
}
