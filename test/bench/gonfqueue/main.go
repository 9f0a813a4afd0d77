// SPDX-License-Identifier: Apache-2.0

// Gonfqueue is a contender of the benchmark: the callback of go-nfqueue, as its
// users write it, that accepts everything. It takes the arguments of the
// readers in C: NUMBER LENGTH COPYRANGE RECEIVEBUFFER.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/florianl/go-nfqueue/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gonfqueue:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 4 {
		return errors.New("usage: gonfqueue NUMBER LENGTH COPYRANGE RECEIVEBUFFER")
	}
	var n [4]uint32
	for i, a := range args {
		v, err := strconv.ParseUint(a, 10, 32)
		if err != nil {
			return err
		}
		n[i] = uint32(v)
	}
	q, err := nfqueue.Open(&nfqueue.Config{
		NfQueue: uint16(n[0]), MaxQueueLen: n[1], MaxPacketLen: n[2],
		Copymode: nfqueue.NfQnlCopyPacket, Flags: nfqueue.NfQaCfgFlagGSO,
	})
	if err != nil {
		return err
	}
	defer q.Close()
	err = errors.Join(q.SetOption(netlink.NoENOBUFS, true), setBuffer(q, int(n[3])))
	if err != nil {
		return err
	}
	err = q.RegisterWithErrorFunc(ctx, func(a nfqueue.Attribute) int {
		if a.PacketID != nil {
			_ = q.SetVerdict(*a.PacketID, nfqueue.NfAccept)
		}
		return 0
	}, func(error) int { return 0 })
	if err != nil {
		return err
	}
	fmt.Println("ready")
	<-ctx.Done()
	return nil
}

// setBuffer gives the socket the receive buffer that the other readers have.
func setBuffer(q *nfqueue.Nfqueue, size int) error {
	return fdcontrol.Do(q.Con, func(fd int) error {
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size)
		if err != nil {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
		}
		return err
	})
}
