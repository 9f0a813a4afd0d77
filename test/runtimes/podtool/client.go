// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// patience is how long an answer may take.
const patience = time.Minute

// ask prints the address of a name.
func ask(ctx context.Context, network, server, name string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resolver := net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, net.JoinHostPort(server, "53"))
		},
	}
	addrs, err := resolver.LookupNetIP(ctx, "ip4", name)
	if err != nil {
		return err
	}
	fmt.Println(addrs[0])
	return nil
}

const (
	pace = 5 * time.Millisecond
	// settled is how long nothing comes after the last datagram before what is
	// missing counts as lost. It is longer than a daemon takes to be replaced.
	settled = 10 * time.Second
)

// stream sends datagrams until the file is there and prints how many there
// were, how many came back, and the longest time without one.
func stream(ctx context.Context, server, file string) error {
	conn, err := net.Dial("udp", net.JoinHostPort(server, "7"))
	if err != nil {
		return err
	}
	defer conn.Close()
	var sent atomic.Uint64
	var done atomic.Bool
	var receiver sync.WaitGroup
	var got int
	var stall time.Duration
	receiver.Go(func() { got, stall = receive(conn, &sent, &done) })
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for n := uint64(1); ctx.Err() == nil; n++ {
		if _, err := conn.Write(binary.BigEndian.AppendUint64(nil, n)); err != nil {
			return err
		}
		sent.Store(n)
		if _, err := os.Stat(file); err == nil {
			break
		}
		<-ticker.C
	}
	done.Store(true)
	if err := conn.SetReadDeadline(time.Now().Add(settled)); err != nil {
		return err
	}
	receiver.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("the file did not appear: %w", ctx.Err())
	}
	fmt.Printf("sent=%d received=%d stall=%dms\n", sent.Load(), got, stall.Milliseconds())
	return nil
}

// receive counts datagrams until all have come back that were sent when done, or
// the deadline is over that is set then.
func receive(conn net.Conn, sent *atomic.Uint64, done *atomic.Bool) (got int, stall time.Duration) {
	seen := make(map[uint64]bool)
	buf := make([]byte, 64)
	last := time.Now()
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return len(seen), stall
		}
		if n != 8 {
			continue
		}
		stall = max(stall, time.Since(last))
		last = time.Now()
		if number := binary.BigEndian.Uint64(buf); number <= sent.Load()+1 {
			seen[number] = true
		}
		if done.Load() && uint64(len(seen)) == sent.Load() {
			return len(seen), stall
		}
	}
}
