// SPDX-License-Identifier: Apache-2.0

// Package node is the node daemon as a library. nsqueued is [Run] with an
// inspector that accepts every packet; a program that brings its own inspector is
// an nsqueued of its own:
//
//	func main() {
//		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
//		defer stop()
//		if err := node.Run(ctx, node.DefaultConfig(), inspect.Func(noTelnet)); err != nil {
//			fmt.Fprintln(os.Stderr, err)
//			os.Exit(1)
//		}
//	}
//
// Package github.com/nsqueue/nsqueue/daemon/inspect says how to write the
// inspector, and the folder examples has whole programs.
//
// # What Run does
//
// Run takes up the pods of the daemon before it, listens on the unix socket for
// the CNI plugin and for nsqueuectl, and shows the inspector the packets of every
// attached pod. When its context ends, it answers the packets that it has read
// and returns.
//
// It needs root, and the node's own network and mount namespaces;
// docs/security.md lists the capabilities.
//
// # Restarts
//
// A daemon that is started by systemd with deploy/systemd's unit, or by
//
//	nsqueued supervise --worker PROGRAM -- FLAGS
//
// hands its queues to the daemon that follows it: packets wait in them meanwhile.
// Started alone, it leaves pods to their failure policy until the next one runs.
//
// # Configuration
//
// [DefaultConfig] is what nsqueued does without a file. Change its fields, or read
// the file that nsqueued reads by [LoadConfig]. docs/configuration.md explains
// each field.
package node
