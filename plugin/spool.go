// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"log/slog"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/spool"
)

// spoolDel leaves the call for the daemon. The call may have been carried out
// without an answer; to detach what is detached already is harmless.
func (p *process) spoolDel(log *slog.Logger, socket string, key api.Key, called time.Duration) {
	e, err := spool.NewDel(key, called)
	if err == nil {
		err = p.writeSpool(socket, e)
	}
	if err != nil {
		log.Error("DEL not stored: the pod stays attached until nsqueued notices that it is gone",
			errorAttr(err))
		return
	}
	log.Warn("DEL spooled: nsqueued detaches the pod when it is back")
}

// spoolAdd leaves the call for the daemon, so that a pod that starts uninspected
// does not stay so. The call may have been carried out without
// an answer; to attach the same netns again changes nothing.
func (p *process) spoolAdd(c *podCall, req api.AttachRequest, called time.Duration) {
	e, err := spool.NewAdd(req, c.netns, called)
	if err == nil {
		err = p.writeSpool(c.config.Socket, e)
	}
	if err != nil {
		p.log.Error("ADD not stored: the pod stays uninspected", errorAttr(err))
		return
	}
	p.log.Warn("ADD spooled: nsqueued attaches the pod when it is back")
}

func (p *process) writeSpool(socket string, e *spool.Entry) error {
	dir, err := spool.Open(p.spoolPath(socket))
	if err != nil {
		return err
	}
	return errors.Join(dir.Write(e), dir.Close())
}
