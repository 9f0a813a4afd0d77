// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/ui"
)

// uiFlags are the command's own flags.
type uiFlags struct {
	listen string
	hosts  []string
}

func newUI(run runner) *cobra.Command {
	var f uiFlags
	cmd := &cobra.Command{
		Use:   "ui",
		Short: "Serve a page that shows this node in a browser",
		Long: `Serve a page that shows the node's pods with their rates, live flows, and what
rules refuse, until Ctrl-C. It can write a rule that accepts what was refused.
The page changes nothing.

ui prints the page's address, with a secret token in it: whoever has the address
sees the node's traffic. It answers no request without the token, none by
another host name (--host names more), and none from a page of another site. It
listens on this machine only, unless --listen says otherwise. There is no TLS:
from another machine forward the port, with ssh -L or kubectl port-forward.

Without root, use the socket of observers (--socket .../observe.sock). The page
continues when nsqueued restarts. While no page is open, nsqueued is not asked
anything.`,
		Example: `  nsqueuectl ui
  nsqueuectl ui --listen 127.0.0.1:8080`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				return serveUI(ctx, c, &f)
			})
		},
	}
	cmd.Flags().StringVar(&f.listen, "listen", "127.0.0.1:0",
		"`ADDRESS` to serve at; port 0 is any\n")
	cmd.Flags().StringSliceVar(&f.hosts, "host", nil,
		"a `NAME` by which browsers ask for the page, beside\nits address and localhost")
	return cmd
}

func serveUI(ctx context.Context, c *command, f *uiFlags) error {
	if host, _, err := net.SplitHostPort(f.listen); err != nil || host == "" {
		return usageErrorf("listen %q: want an address with a port, such as 127.0.0.1:8080",
			f.listen)
	}
	if _, err := call(ctx, c, c.client.Status); err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", f.listen)
	if err != nil {
		return fmt.Errorf("serve the page: %w", err)
	}
	server := ui.New(c.client)
	if err := c.printLine("%s", server.URL(l.Addr())); err != nil {
		_ = l.Close()
		return err
	}
	fmt.Fprintln(c.err, "open this address in a browser; press Ctrl-C to stop")
	return server.Serve(ctx, l, f.hosts...)
}
