// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// podFilter says which pods a command is about.
type podFilter struct{ namespace, pod string }

func (f *podFilter) addTo(cmd *cobra.Command, run runner) {
	flags := cmd.Flags()
	flags.StringVarP(&f.namespace, "namespace", "n", "", "pods in `NAMESPACE` only")
	flags.StringVar(&f.pod, "pod", "", "the pod `NAMESPACE/NAME`, or NAME, only")
	completeFlag(cmd, "namespace", completeNames(run, namespaceNames))
	completeFlag(cmd, "pod", completeNames(run, podNames))
}

// parse takes the namespace from the pod's name, if it is there.
func (f *podFilter) parse() error {
	if !strings.Contains(f.pod, "/") {
		return nil
	}
	pod, err := parsePod(f.pod)
	if err != nil {
		return err
	}
	if f.namespace != "" && f.namespace != pod.Namespace {
		return usageErrorf("pod %q is not in namespace %q", f.pod, f.namespace)
	}
	f.namespace, f.pod = pod.Namespace, pod.Name
	return nil
}

func (f *podFilter) matches(p api.Pod) bool {
	return (f.namespace == "" || f.namespace == p.Namespace) && (f.pod == "" || f.pod == p.Name)
}

// filterFlags say which packets a command is about.
type filterFlags struct {
	podFilter

	direction, protocol, verdict string
	address, rule                string
	noProbes                     bool
	port                         uint16
	rate                         uint32
}

// addTo gives the command the flags, with a rate that the command can take.
func (f *filterFlags) addTo(cmd *cobra.Command, run runner, rate uint32) {
	f.podFilter.addTo(cmd, run)
	flags := cmd.Flags()
	flags.StringVar(&f.direction, "direction", "",
		"`DIRECTION` as seen from the pod: in, out or\nforward")
	flags.StringVar(&f.protocol, "protocol", "",
		"`PROTOCOL` of the packets, such as tcp, or a number")
	flags.Uint16Var(&f.port, "port", 0, "packets from or to `PORT` only")
	flags.StringVar(&f.address, "address", "",
		"packets from or to `ADDRESS`, or a network, only")
	flags.BoolVar(&f.noProbes, "no-probes", false,
		"leave out packets from and to the node itself")
	flags.StringVar(&f.verdict, "verdict", "",
		"`VERDICT`: accept, drop, queue or reject")
	flags.StringVar(&f.rule, "rule", "",
		"packets decided by `SET/RULE`, or SET, only")
	flags.Uint32Var(&f.rate, "rate", rate, "at most `N` packets a second, 0: all")
	completeFlag(cmd, "direction", words("in", "out", "forward"))
	completeFlag(cmd, "protocol", words("tcp", "udp", "icmp", "icmpv6", "sctp", "udplite"))
	completeFlag(cmd, "verdict", words("accept", "drop", "queue", "reject"))
	completeFlag(cmd, "rule", completeRules(run))
}

// watchPackets watches at a low priority. It continues with the next daemon when
// one ends; ready is called for each of them.
func (c *command) watchPackets(
	ctx context.Context, req api.WatchRequest, ready func(), emit func([]api.PacketEvent) error,
) error {
	if c.nice != nil {
		c.nice()
	}
	answered, told := false, false
	for {
		err := c.client.Watch(ctx, req, func() {
			answered, told = true, false
			ready()
		}, emit)
		switch {
		case err == nil || ctx.Err() != nil:
			return nil
		case !answered || !errors.Is(err, api.ErrUnavailable):
			return err
		case !told:
			fmt.Fprintln(c.err, noAnswer)
			told = true
		}
		if !pause(ctx, reconnectInterval) {
			return nil
		}
	}
}

// request returns the request for the daemon.
func (f *filterFlags) request() (api.WatchRequest, error) {
	if err := f.parse(); err != nil {
		return api.WatchRequest{}, err
	}
	req := api.WatchRequest{
		Namespace: f.namespace, Pod: f.pod, Direction: f.direction, Protocol: f.protocol,
		Port: f.port, Verdict: f.verdict, Rate: f.rate, Address: f.address, NoProbes: f.noProbes,
		Rule: f.rule,
	}
	if err := req.Validate(); err != nil {
		return req, usageErrorf("%s", err)
	}
	return req, nil
}
