// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/view"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// attachFlags are the command's own flags.
type attachFlags struct {
	netns, containerID, ifname, pod, policy string
}

func newAttach(run runner) *cobra.Command {
	var f attachFlags
	cmd := &cobra.Command{
		Use:   "attach --netns PATH --container-id ID",
		Short: "Inspect a netns that no CNI plugin set up",
		Long: `Attach an interface in a netns that no CNI plugin set up, such as a netns of ip
netns or of a VPN. nsqueued inspects its packets until you detach it. The
container ID is any name that you choose: list, describe and detach use it.`,
		Example: `  ip netns add blue
  nsqueuectl attach --netns /run/netns/blue --container-id blue
  nsqueuectl attach --netns /proc/7/ns/net --container-id a --pod default/a`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				return attach(ctx, c, f)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.netns, "netns", "", "`PATH` of the netns (required)")
	flags.StringVar(&f.containerID, "container-id", "", "`ID` of the attachment (required)")
	flags.StringVar(&f.ifname, "ifname", "eth0", "`NAME` of the interface there")
	flags.StringVar(&f.pod, "pod", "", "`NAMESPACE/NAME` of the pod in the netns")
	flags.StringVar(&f.policy, "failure-policy", "",
		"`POLICY` for packets that cannot be inspected:\nIgnore or Fail (default: nsqueued's)")
	for _, name := range []string{"netns", "container-id"} {
		_ = cmd.MarkFlagRequired(name) // an error would say that there is no such flag
	}
	return cmd
}

func attach(ctx context.Context, c *command, f attachFlags) error {
	pod, err := parsePod(f.pod)
	if err != nil {
		return err
	}
	path, err := filepath.Abs(f.netns)
	if err != nil {
		return fmt.Errorf("find netns: %w", err)
	}
	req := api.AttachRequest{
		Key:           api.Key{ContainerID: f.containerID, Ifname: f.ifname},
		Origin:        api.OriginManual,
		Pod:           pod,
		NetnsPath:     path,
		FailurePolicy: api.Policy(f.policy),
	}
	if err := req.Validate(); err != nil {
		return usageErrorf("%s", err)
	}
	// O_NONBLOCK, because the path could be a FIFO.
	netns, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open netns: %w", err)
	}
	defer netns.Close()
	a, err := call(ctx, c, func(ctx context.Context) (api.Attachment, error) {
		return c.client.Attach(ctx, req, netns)
	})
	if err != nil {
		return fmt.Errorf("attach %s: %w", req.Key, err)
	}
	if c.printer().Structured() {
		return c.printer().Object(a)
	}
	return c.printLine("%s attached (hook %s, queue %s, failure policy %s)",
		a.Key, a.Hook, view.QueueNumbers(a.Queues), a.FailurePolicy)
}
