// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// Restore attaches again what an earlier daemon recorded. Records of netns
// that are gone are removed; what cannot be read or attached is logged and
// stays recorded. Call it before the registry serves anybody.
func (r *Registry) Restore(ctx context.Context) error {
	records, err := r.options.Store.Load()
	if err != nil {
		if records == nil {
			return err
		}
		r.options.Log.Error("state not restored", slog.Any("error", err))
	}
	for _, rec := range records {
		if err := r.restore(ctx, rec); err != nil {
			r.log(&rec).Error("attachment not restored", slog.Any("error", err))
		}
	}
	return nil
}

func (r *Registry) restore(ctx context.Context, rec state.Record) error {
	ns, err := reopen(&rec)
	if err != nil {
		return err
	}
	if ns == nil {
		r.log(&rec).Info("netns is gone, attachment forgotten", slog.String("path", rec.Netns.Path))
		return r.options.Store.Remove(rec.Key)
	}
	defer ns.Close()
	rec.State = api.Attaching
	rec.Queue = r.options.Queue.Number
	_, err = r.attach(ctx, rec, ns)
	if err != nil {
		// Undoing a failed attach has removed the record: bring it back, the
		// pod is still there.
		return errors.Join(err, r.options.Store.Save(rec))
	}
	return nil
}

// reopen opens the netns of a record; nil where it is another one by now.
func reopen(rec *state.Record) (*netns.NetNS, error) {
	ns, err := netns.Open(rec.Netns.Path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, netns.ErrNotNetns) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if ns.ID().Cookie != rec.Netns.Cookie {
		return nil, ns.Close()
	}
	return ns, nil
}

// Suspend ends inspection for an orderly exit and keeps the records, so that
// the next daemon takes over. Pods under Ignore are disarmed; pods under Fail
// stay armed, which cuts them off until then. No call may be in progress.
func (r *Registry) Suspend() error {
	var errs []error
	armed, disarmed := 0, 0
	r.eachBinding(func(b *binding) {
		b.mu.Lock()
		strict := b.policy() == api.Fail
		stillArmed, err := b.suspend()
		b.mu.Unlock()
		errs = append(errs, err)
		if stillArmed {
			armed++
			return
		}
		disarmed++
		if strict {
			r.options.Log.Warn("this kernel keeps no hook armed: packets pass unseen until restart",
				slog.Uint64("netns", b.cookie))
		}
	})
	if armed > 0 {
		r.options.Log.Warn("pods under Fail stay armed, without network until nsqueued runs again",
			slog.Int("netns", armed))
	}
	r.options.Log.Info("inspection suspended",
		slog.Int("disarmed", disarmed), slog.Int("armed", armed))
	return errors.Join(errs...)
}
