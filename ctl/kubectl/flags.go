// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
)

// remoteFlags are flags that nsqueuectl has as well, and that it gets as they are: it says
// what is wrong with them.
type remoteFlags struct {
	local *pflag.FlagSet
	// names are those that nsqueuectl has, by those that this program has.
	names map[string]string
}

func newRemoteFlags(cmd *cobra.Command) *remoteFlags {
	return &remoteFlags{cmd.Flags(), map[string]string{}}
}

func (f *remoteFlags) text(name, usage string) {
	f.local.String(name, "", usage)
	f.names[name] = name
}

// pods adds those that choose pods.
func (f *remoteFlags) pods() {
	f.local.String("pod-namespace", "", "pods in `NAMESPACE` only")
	f.names["pod-namespace"] = "namespace"
	f.text("pod", "the pod `NAMESPACE/NAME`, or NAME, only")
}

// packets adds those that choose packets, of each node so many a second.
func (f *remoteFlags) packets(rate uint32) {
	f.pods()
	f.text("direction", "`DIRECTION` as seen from the pod: in, out or\nforward")
	f.text("protocol", "`PROTOCOL` of the packets, such as tcp, or a number")
	f.local.Uint16("port", 0, "packets from or to `PORT` only")
	f.text("address", "packets from or to `ADDRESS`, or a network, only")
	f.local.Bool("no-probes", false, "leave out packets from and to the node itself")
	f.text("verdict", "`VERDICT`: accept, drop, queue or reject")
	f.text("rule", "packets decided by `SET/RULE`, or SET, only")
	f.local.Uint32("rate", rate, "at most `N` packets a second of each node, 0: all")
	for _, name := range []string{"port", "no-probes", "rate"} {
		f.names[name] = name
	}
}

// args are those that the user has given, as nsqueuectl has them.
func (f *remoteFlags) args(command string, more ...string) []string {
	args := append(strings.Fields(command), more...)
	f.local.Visit(func(flag *pflag.Flag) {
		if name, ok := f.names[flag.Name]; ok {
			args = append(args, "--"+name+"="+flag.Value.String())
		}
	})
	return args
}

// addOutput gives a command the flag for its format.
func addOutput(cmd *cobra.Command) *string {
	output := cmd.Flags().StringP("output", "o", text.Formats()[0],
		strings.Join(text.Formats(), "|"))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(text.Formats(),
		cobra.ShellCompDirectiveNoFileComp)) // an error would say that it is done
	return output
}

// addWatch gives a command the flag --watch.
func addWatch(cmd *cobra.Command) *bool {
	return cmd.Flags().BoolP("watch", "w", false, "refresh every second until Ctrl-C")
}
