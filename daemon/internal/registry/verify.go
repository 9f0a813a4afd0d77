// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"log/slog"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// proof returns what is wrong.
func (r *Registry) proof(b *binding, at netns.Place, rec *state.Record) error {
	p := b.parts
	stats, err := nfqueue.Stats(at)
	if err != nil {
		return err
	}
	for _, l := range p.lanes {
		if err := l.check(stats); err != nil {
			return err
		}
	}
	if err := r.distrust(p, stats, rec); err != nil {
		return err
	}
	return p.handle.Verify(at, p.selector)
}

// distrust ends settling where somebody else reads a queue of the netns: by the
// verdict of its own packet, and chains that it moves meanwhile, a pod with
// CAP_NET_ADMIN can put a request to settle behind our queue. The module sees
// whose verdict it is, nftables does not.
func (r *Registry) distrust(p *parts, stats []nfqueue.Stat, rec *state.Record) error {
	if !p.selector.Settle.On() || p.hook.Kind() != hook.NFTables || len(stats) == len(p.lanes) {
		return nil
	}
	s := p.selector
	s.Settle = hook.Settle{}
	if err := p.arm(s); err != nil {
		return err
	}
	r.report(slog.LevelWarn, api.EventSecurity, rec,
		"another program reads a queue in the netns: no flow is settled there any more")
	return nil
}

// repair puts right what proof may have found.
func (r *Registry) repair(b *binding, at netns.Place) error {
	p := b.parts
	for _, l := range p.lanes {
		if err := l.repair(at); err != nil {
			return err
		}
	}
	if p.handle.Verify(at, p.selector) == nil {
		return nil
	}
	if p.arm(p.selector) == nil && p.handle.Verify(at, p.selector) == nil {
		return nil
	}
	return r.reopenHook(p)
}

// reopenHook begins anew where the hook cannot be armed by its handle.
func (r *Registry) reopenHook(p *parts) error {
	handle, err := p.hook.Open(p.ns, nil)
	if err != nil {
		return err
	}
	p.setSettle(hook.Settle{})
	old := p.handle
	p.handle = handle
	return errors.Join(old.Close(), p.keeper.replaceTable(handle.File()), p.arm(p.selector))
}

// rehook arms h in place of another kind. The caller holds b.mu.
func (b *binding) rehook(h hook.Hook) (changed bool, err error) {
	p := b.parts
	if p == nil || p.hook.Kind() == h.Kind() {
		return false, nil
	}
	handle, err := h.Open(p.ns, nil)
	if err != nil {
		return false, err
	}
	warning, err := handle.Arm(p.selector)
	if err != nil {
		return false, errors.Join(err, handle.Remove())
	}
	old := p.handle
	p.hook, p.handle, p.warning = h, handle, warning
	p.setSettle(p.selector.Settle)
	return true, old.Close()
}

// check compares the kernel with what should be. Its error says what is wrong.
func (b *binding) check() error {
	p := b.parts
	if p == nil {
		return errors.New("is not up")
	}
	stats, err := nfqueue.Stats(p.ns)
	if err != nil {
		return err
	}
	for _, l := range p.lanes {
		if err := l.check(stats); err != nil {
			return err
		}
	}
	return p.handle.Verify(p.ns, p.selector)
}
