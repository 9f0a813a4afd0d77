// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"log/slog"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// Suspend ends inspection for an orderly exit and keeps the records, so that
// the next daemon takes over. No call may be in progress.
//
// Where a supervisor has copies of the descriptors, every packet that was read is answered
// and the others wait in their queues for the next daemon. Elsewhere pods under
// Ignore are disarmed; pods under Fail stay armed, which cuts them off until
// then.
func (r *Registry) Suspend() error {
	if r.options.Descriptors.Keeps() {
		return r.handOver()
	}
	var errs []error
	armed, disarmed := 0, 0
	defer r.awaitAllStopped()
	r.eachNetns(func(n lockedNetns) {
		strict := n.policy() == api.Fail
		stillArmed, err := n.suspend()
		errs = append(errs, err)
		if stillArmed {
			armed++
			return
		}
		disarmed++
		if strict {
			r.options.Log.Warn("packets of a pod under Fail pass uninspected until nsqueued "+
				"runs again: this kernel keeps no hook without it",
				slog.Uint64("netns", n.cookie))
		}
	})
	if armed > 0 {
		r.options.Log.Warn("pods under Fail have no network until nsqueued runs again",
			slog.Int("netns", armed))
	}
	r.options.Log.Info("inspection suspended",
		slog.Int("disarmed", disarmed), slog.Int("armed", armed))
	return errors.Join(errs...)
}

// handOver stops reading and closes our copies of the descriptors.
func (r *Registry) handOver() error {
	r.leavePrograms()
	if err := r.datapaths.Stop(); err != nil {
		return err // some may still read: the next daemon must look for orphans
	}
	if err := r.options.Store.MarkOrderly(); err != nil {
		r.options.Log.Warn("cannot record the orderly end; the next daemon takes it for a crash",
			slog.Any("error", err))
	}
	r.options.Log.Info("queues handed over to the supervisor; packets wait for the next daemon")
	var errs []error
	r.eachNetns(func(n lockedNetns) {
		if d := n.current(); d != nil {
			errs = append(errs, d.Close())
		}
		n.datapath, n.inherited = nil, nil
	})
	return errors.Join(errs...)
}
