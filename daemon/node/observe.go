// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// MetricsConfig is about what Prometheus is shown.
type MetricsConfig struct {
	// PerPod: each attachment has series of its own.
	PerPod bool `json:"perPod"`
}

// ObserveConfig is about observe.sock, the socket beside the API's whose clients
// may only look.
type ObserveConfig struct {
	// Group, by name or number, whose members may connect as well as root; empty
	// means none.
	Group string `json:"group"`
}

func (c *ObserveConfig) validate() error {
	if strings.ContainsAny(c.Group, ":\n\x00") {
		return fmt.Errorf("observe.group %q: want the name or number of a group", c.Group)
	}
	return nil
}

// group returns the group's number, -1 for none.
func (c *ObserveConfig) group() (int, error) {
	n, err := groupID(c.Group)
	if err != nil {
		return -1, fmt.Errorf("observe.group: %w", err)
	}
	return n, nil
}

// validateMetricsAddress wants no name that would have to be resolved when the
// daemon starts.
func validateMetricsAddress(address string) error {
	if address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if err == nil && host != "" {
		_, err = netip.ParseAddr(host)
	}
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("metricsAddress %q: want host:port in numbers, or :port", address)
	}
	return nil
}

// observers serve clients that only look, until their group ends.
type observers struct {
	observed api.Observed
	serving  *group
	log      *slog.Logger
}

// start begins to serve. What cannot be served is logged: pods must not lose
// their inspection because it cannot be observed.
func (s *observers) start(c *Config) {
	group, err := c.Observe.group()
	if err != nil {
		s.failed("group", err)
	}
	l, err := api.ListenObservers(api.ObserverSocket(c.Socket), group)
	if err != nil {
		s.failed("socket", err)
	} else {
		s.serve(l.Addr(), func(ctx context.Context) error {
			return api.ServeObservers(ctx, l, group, s.observed, s.log)
		})
	}
	if c.MetricsAddress == "" {
		return
	}
	tcp, err := net.Listen("tcp", c.MetricsAddress)
	if err != nil {
		s.failed("metricsAddress", err)
		return
	}
	s.serve(tcp.Addr(), func(ctx context.Context) error {
		return api.ServeMetrics(ctx, tcp, s.observed, s.log)
	})
}

// serve has a server run.
func (s *observers) serve(at net.Addr, serve func(context.Context) error) {
	s.log.Info("serving observers", slog.String("network", at.Network()),
		slog.String("address", at.String()))
	s.serving.add(func(ctx context.Context) {
		if err := serve(ctx); err != nil {
			s.failed(at.String(), err)
		}
	})
}

func (s *observers) failed(what string, err error) {
	s.log.Error("cannot serve observers", slog.String("what", what), slog.Any("error", err))
}
