// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/boottime"
	"github.com/nsqueue/nsqueue/internal/cnipod"
)

// del has the daemon forget the pod. It never fails: the chain runs backwards
// here, and an error would keep the plugins before us from cleaning up.
// Even if the configuration is invalid it does what it can, which needs only the
// attachment's key and a socket.
func (p *process) del() {
	defer func() {
		if cause := recover(); cause != nil {
			p.log.Error("DEL failed", slog.Any("cause", cause))
		}
	}()
	called := boottime.Now()
	socket := p.delSocket()
	key := api.Key{ContainerID: p.getenv("CNI_CONTAINERID"), Ifname: p.getenv("CNI_IFNAME")}.
		Canonical() // in case that an older version has attached it
	log := p.log.With(keyAttr(key), slog.String("socket", socket))
	if err := key.Validate(); err != nil {
		log.Error("DEL ignored: it names no attachment", errorAttr(err))
		return
	}
	client := api.NewClient(socket)
	err := p.retry(p.limits.del, isBusy, func(ctx context.Context) error {
		return client.DetachEnded(ctx, key)
	})
	switch {
	case isStarting(err):
		log.Warn("nsqueued not reached", errorAttr(err))
		p.spoolDel(log, socket, key, called)
	case err != nil:
		log.Error("nsqueued did not detach the pod", errorAttr(err))
	}
}

// delSocket returns the socket of the configuration if that is usable, even if the
// rest of the configuration is invalid, and else the default.
func (p *process) delSocket() string {
	data, err := io.ReadAll(p.stdin)
	if err != nil {
		p.log.Error("config not read", errorAttr(err))
	}
	if _, err := parseConfig(data); err != nil {
		p.log.Warn("config not valid", errorAttr(err))
	}
	var c struct {
		Socket json.RawMessage `json:"socket"`
	}
	socket := api.DefaultSocket
	if json.Unmarshal(data, &c) != nil || c.Socket == nil {
		return socket
	}
	var configured string
	if json.Unmarshal(c.Socket, &configured) == nil && cnipod.ValidateSocket(configured) == nil {
		socket = configured
	}
	return socket
}
