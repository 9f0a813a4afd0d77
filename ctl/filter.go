// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// filterFlags say which packets a command is about.
type filterFlags struct {
	namespace, pod, direction, protocol, verdict string
	port                                         uint16
	rate                                         uint32
}

// addTo gives the command the flags, with a rate that the command can take.
func (f *filterFlags) addTo(cmd *cobra.Command, run runner, rate uint32) {
	flags := cmd.Flags()
	flags.StringVarP(&f.namespace, "namespace", "n", "", "packets of pods in `NAMESPACE` only")
	flags.StringVar(&f.pod, "pod", "", "packets of the pod `NAMESPACE/NAME`, or NAME, only")
	flags.StringVar(&f.direction, "direction", "", "in, out or forward, as seen from the pod")
	flags.StringVar(&f.protocol, "protocol", "", "such as tcp, or a number")
	flags.Uint16Var(&f.port, "port", 0, "packets from or to `PORT` only")
	flags.StringVar(&f.verdict, "verdict", "", "accept, drop or queue")
	flags.Uint32Var(&f.rate, "rate", rate, "at most `N` packets a second, 0: all")
	completeFlag(cmd, "namespace", completeNames(run, namespaceNames))
	completeFlag(cmd, "pod", completeNames(run, podNames))
	completeFlag(cmd, "direction", words("in", "out", "forward"))
	completeFlag(cmd, "protocol", words("tcp", "udp", "icmp", "icmpv6", "sctp", "udplite"))
	completeFlag(cmd, "verdict", words("accept", "drop", "queue"))
}

// watchPackets watches, and lets everybody else go first.
func (c *command) watchPackets(
	ctx context.Context, req api.WatchRequest, ready func(), emit func(*api.PacketEvent) error,
) error {
	if c.yield != nil {
		c.yield()
	}
	return c.client.Watch(ctx, req, ready, emit)
}

// request returns what the daemon is asked for.
func (f *filterFlags) request() (api.WatchRequest, error) {
	req := api.WatchRequest{
		Namespace: f.namespace, Pod: f.pod, Direction: f.direction, Protocol: f.protocol,
		Port: f.port, Verdict: f.verdict, Rate: f.rate,
	}
	if strings.Contains(f.pod, "/") {
		pod, err := parsePod(f.pod)
		if err != nil {
			return req, err
		}
		if f.namespace != "" && f.namespace != pod.Namespace {
			return req, usageErrorf("pod %q is not in namespace %q", f.pod, f.namespace)
		}
		req.Namespace, req.Pod = pod.Namespace, pod.Name
	}
	if err := req.Validate(); err != nil {
		return req, usageErrorf("%s", err)
	}
	return req, nil
}
