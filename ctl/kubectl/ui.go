// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/fleet"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/pods"
)

func newUI(run runner) *cobra.Command {
	var port uint16
	cmd := &cobra.Command{
		Use:   "ui --node NODE",
		Short: "Serve a page that shows a node in a browser",
		Long: `Serve the page of nsqueuectl ui for one node, until Ctrl-C: pods with their rates,
live flows, and what rules refuse. The page changes nothing.

It prints the page's address, with a secret token in it. On this machine and on
the node the page is served on the loopback address alone; the API server carries
what is between them, encrypted. It needs the right to forward ports to the pods
of nsqueue.`,
		Example: `  kubectl nsqueue ui --node node1
  kubectl nsqueue ui --node node1 --port 8080`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().Uint16Var(&port, "port", 0, "`PORT` of this machine, 0: any")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return run(cmd.Context(), text.Formats()[0], func(ctx context.Context, c *command) error {
			return c.ui(ctx, port)
		})
	}
	return cmd
}

func (c *command) ui(ctx context.Context, port uint16) error {
	list, err := c.pods(ctx)
	if err != nil {
		return err
	}
	if len(list) != 1 {
		return usageErrorf("a page shows one node, and there are %d: name one with --node",
			len(list))
	}
	page, err := c.startPage(ctx, list[0])
	if err != nil {
		return err
	}
	defer page.stop()
	err = c.cluster.Forward(page.ctx, list[0], port, page.port, func(local uint16) error {
		_, err := fmt.Fprintf(c.out, "http://127.0.0.1:%d/%s/\n", local, page.token)
		c.tell("open this address in a browser; press Ctrl-C to stop")
		return err
	})
	switch {
	case ctx.Err() != nil:
		return nil
	case page.ctx.Err() != nil:
		return fmt.Errorf("%s: %w", list[0].Node, context.Cause(page.ctx))
	case err == nil:
		err = errors.New("the connection was lost")
	}
	return fmt.Errorf("forward a port to %s: %w", list[0].Node, err)
}

// page is one that a node serves.
type page struct {
	port  uint16
	token string
	// ctx ends with the page.
	ctx  context.Context
	stop func()
}

// startPage has a node serve the page, and returns when it does.
func (c *command) startPage(ctx context.Context, p pods.Pod) (*page, error) {
	defer c.showProgress(func() string { return "waiting for " + p.Node })()
	ctx, cancel := context.WithCancelCause(ctx)
	served, ended := make(chan *page, 1), make(chan struct{})
	go func() {
		defer close(ended)
		cancel(c.servePage(ctx, p, served))
	}()
	stop := func() { cancel(nil); <-ended }
	select {
	case one := <-served:
		one.ctx, one.stop = ctx, stop
		return one, nil
	case <-ended:
		stop()
		return nil, fmt.Errorf("%s: %w", p.Node, context.Cause(ctx))
	}
}

// servePage runs nsqueuectl ui on a node, tells where it serves the page, and returns why it
// has ended.
func (c *command) servePage(ctx context.Context, p pods.Pod, served chan<- *page) error {
	var said string
	out := fleet.Lines(func(line []byte) error {
		one, err := readAddress(string(line))
		if err != nil {
			return err
		}
		select {
		case served <- one:
		default: // there is one already
		}
		return nil
	})
	reason := fleet.Lines(func(line []byte) error {
		if why, ok := strings.CutPrefix(string(line), fleet.ErrorPrefix); ok {
			said = why
		}
		return nil
	})
	err := c.fleet.Exec(ctx, p, []string{"ui", "--listen=127.0.0.1:0"}, out, reason)
	if said != "" {
		return errors.New(said)
	}
	return cmp.Or(err, errors.New("nsqueuectl ui has ended there"))
}

// readAddress reads what nsqueuectl ui prints: it is a node's, and goes into an address that
// a browser opens.
func readAddress(line string) (*page, error) {
	u, err := url.Parse(strings.TrimSpace(line))
	if err != nil {
		return nil, errors.New("the node sends no address of a page")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	token := strings.Trim(u.Path, "/")
	known := regexp.MustCompile(`^[A-Za-z0-9_-]{16,128}$`)
	if err != nil || port == 0 || !known.MatchString(token) {
		return nil, errors.New("the node sends no address of a page")
	}
	return &page{port: uint16(port), token: token}, nil
}
