// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// bed is two netns and a veth pair:
//
//	client eth0 10.99.0.1/24 ---- pod eth0 10.99.0.2/24
//
// The rules in the pod are those of nsqueued. It attaches the pod once, with
// the policy that leaves the rules in place when it exits; whoever binds the
// queue next is behind the same rules at the same hooks in both directions.
// That takes a kernel on which they outlive their owner (6.9), or the module.
type bed struct {
	name        string
	client, pod *nstest.NetNS
	options     *options
	queued      bool
}

// newBed makes the netns without rules.
func newBed(o *options, name string) (*bed, error) {
	b := &bed{name: name, options: o}
	var err error
	if b.client, err = nstest.Create(name + "-client"); err != nil {
		return nil, err
	}
	if b.pod, err = nstest.Create(name + "-pod"); err != nil {
		return nil, err
	}
	peer, err := os.Open(b.pod.Path())
	if err != nil {
		return nil, err
	}
	defer peer.Close()
	err = b.client.Try(func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "eth0"},
			PeerName:  "eth0", PeerNamespace: netlink.NsFd(int(peer.Fd())),
		})
	})
	if err != nil {
		return nil, fmt.Errorf("add veth: %w", err)
	}
	return b, errors.Join(configure(b.client, "10.99.0.1/24"), configure(b.pod, podAddress+"/24"))
}

const podAddress = "10.99.0.2"

func configure(ns *nstest.NetNS, address string) error {
	return ns.Try(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		return errors.Join(netlink.AddrAdd(link, addr), netlink.LinkSetUp(link))
	})
}

// podKey is the attachment of every bed.
func podKey() api.Key { return api.Key{ContainerID: "bench", Ifname: "eth0"} }

// arm makes nsqueued put its rules into the pod and leave them there. The
// configuration is that of nsqueued on this bed, in addition to its defaults.
func (b *bed) arm(ctx context.Context, config string) error {
	d, err := b.daemon(config)
	if err != nil {
		return err
	}
	if err := d.Start(ctx); err != nil {
		return err
	}
	_, err = d.Client.Attach(ctx, api.AttachRequest{
		Key: podKey(), Origin: api.OriginManual, NetnsPath: b.pod.Path(), FailurePolicy: api.Fail,
	}, nil)
	if err != nil {
		return errors.Join(err, d.Kill())
	}
	b.queued = true
	return d.Stop()
}

// daemon returns an nsqueued that has this bed's state, and so inspects the pod
// from its start on if the bed was armed.
func (b *bed) daemon(config string) (*chain.Daemon, error) { return b.judge(config, "") }

// judge returns an nsqueued that decides by the rules of a directory, if one is given.
func (b *bed) judge(config, rules string) (*chain.Daemon, error) {
	dir := filepath.Join("/run/bench", b.name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	c, err := daemonConfig(dir, config)
	if err != nil {
		return nil, err
	}
	c.Bin, c.Hook = b.options.bin, b.options.hook
	if rules != "" {
		c.Args = []string{"--rules", rules}
	}
	return chain.NewDaemon(c), nil
}

// daemonConfig writes a configuration file into the directory, which becomes
// the daemon's.
func daemonConfig(dir, config string) (chain.DaemonConfig, error) {
	file := filepath.Join(dir, "config.yaml")
	text := "apiVersion: nsqueue.io/v1alpha1\nkind: DaemonConfiguration\n" + config
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return chain.DaemonConfig{}, err
	}
	return chain.DaemonConfig{
		Socket: filepath.Join(dir, "nsqueued.sock"), StateDir: dir, LogLevel: "warn",
		Wrap: []string{"/bin/sh", "-c", `exec "$@" --config "$0"`, file},
	}, nil
}

// remove takes the rules out, and the netns.
func (b *bed) remove(ctx context.Context) error {
	if b.queued {
		d, err := b.daemon("")
		if err != nil {
			return err
		}
		if err := d.Start(ctx); err != nil {
			return err
		}
		if err := d.Client.Detach(ctx, podKey()); err != nil {
			return errors.Join(err, d.Kill())
		}
		if err := d.Stop(); err != nil {
			return err
		}
	}
	return errors.Join(b.client.Remove(), b.pod.Remove())
}
