// SPDX-License-Identifier: Apache-2.0

// Podtool is what runs in the tests' pods:
//
//	podtool serve                  answers HTTP on port 80, DNS on 53 (UDP and
//	                               TCP), and echoes UDP on 7
//	podtool dns udp|tcp IP NAME    asks the server for the address of a name
//	podtool stream IP FILE         exchanges datagrams with the server until FILE
//	                               is there, and says how that went
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "podtool:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "serve":
		return serve(ctx)
	case len(args) == 4 && args[0] == "dns":
		return ask(ctx, args[1], args[2], args[3])
	case len(args) == 3 && args[0] == "stream":
		return stream(ctx, args[1], args[2])
	}
	return errors.New("usage: podtool serve | dns udp|tcp IP NAME | stream IP FILE")
}
