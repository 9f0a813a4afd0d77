// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/node"
)

// noTelnet accepts all packets but those to TCP port 23.
func noTelnet(p *inspect.Packet) inspect.Verdict {
	f, ok := p.Flow()
	if ok && f.Protocol == inspect.ProtoTCP && f.DestinationPort == 23 {
		return inspect.Verdict{Action: inspect.Drop}
	}
	return inspect.Verdict{Action: inspect.Accept}
}

// A daemon with an inspector of its own, which runs until SIGTERM or SIGINT.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	config := node.DefaultConfig()
	config.FailurePolicy = api.Fail
	if err := node.Run(ctx, config, inspect.Func(noTelnet)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Run begins with nothing where the configuration is wrong.
func ExampleRun() {
	config := node.DefaultConfig()
	config.Socket = "nsqueued.sock"
	config.Directions = []string{"in", "sideways"}
	fmt.Println(node.Run(context.Background(), config, inspect.AcceptAll{}))
	// Output:
	// socket "nsqueued.sock": want an absolute path
	// direction "sideways": want in, out or forward
}

// A program changes the fields that it cares about.
func ExampleDefaultConfig() {
	config := node.DefaultConfig()
	config.Protocols = []string{"udp"}
	config.Queue.Count = 2
	fmt.Println(config.Validate(), config.FailurePolicy, config.Directions)
	// Output: <nil> Ignore [in out forward]
}

// A file has the fields that differ from the default.
func ExampleLoadConfig() {
	dir, err := os.MkdirTemp("", "nsqueue-example")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "nsqueued.yaml")
	for _, text := range []string{
		"protocols: [udp]\ninspectBudget: 100ms\n", "protocol: udp\n",
	} {
		head := "apiVersion: " + node.APIVersion + "\nkind: " + node.ConfigKind + "\n"
		if err := os.WriteFile(file, []byte(head+text), 0o600); err != nil {
			panic(err)
		}
		config, err := node.LoadConfig(file)
		if err != nil {
			fmt.Println("a key that does not exist is an error")
			continue
		}
		fmt.Println(config.Protocols, config.FailurePolicy)
	}
	// Output:
	// [udp] Ignore
	// a key that does not exist is an error
}
