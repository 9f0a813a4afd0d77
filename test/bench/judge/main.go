// SPDX-License-Identifier: Apache-2.0

// Command judge is an nsqueued that decides by rules, and reads them again at SIGHUP.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/node"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "judge:", err)
		os.Exit(1)
	}
}

// run takes those flags of nsqueued that the benchmark gives it.
func run() error {
	var socket, state, hook, level string
	config := flag.String("config", "", "configuration `file`")
	directory := flag.String("rules", "", "`directory` of the rules")
	flag.StringVar(&socket, "socket", "", "`path` of the API's socket")
	flag.StringVar(&state, "state-dir", "", "`directory` of what survives a restart")
	flag.StringVar(&hook, "hook", "auto", "what queues packets")
	flag.StringVar(&level, "log-level", "warn", "what is logged")
	flag.Parse()
	c, err := node.LoadConfig(*config)
	if err != nil {
		return err
	}
	c.Socket, c.StateDir, c.Hook, c.LogLevel = socket, state, hook, api.LogLevel(level)
	r, err := rules.Load(*directory)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	inspector := rules.New(rules.Options{Rules: r})
	go keep(ctx, inspector, *directory)
	return node.Run(ctx, c, inspector)
}

// tick is what an Inspector wants to be called each.
const tick = 50 * time.Millisecond

// keep looks after the inspector until the context ends.
func keep(ctx context.Context, inspector *rules.Inspector, directory string) {
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			inspector.Tick()
		case <-again:
			go reload(ctx, inspector, directory)
		}
	}
}

func reload(ctx context.Context, inspector *rules.Inspector, directory string) {
	r, err := rules.Load(directory)
	if err == nil {
		_, err = inspector.Replace(ctx, r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "judge: rules not reloaded:", err)
		return
	}
	fmt.Fprintln(os.Stderr, "judge: rules reloaded")
}
