// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"

	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// Forward listens on this machine's loopback at the local port, any one if it is 0, and
// leads connections to a port of the pod's loopback until ctx ends. It calls ready with the
// port at which it listens.
func (c *Cluster) Forward(
	ctx context.Context, p Pod, local, remote uint16, ready func(port uint16) error,
) error {
	dialer, err := c.dialer(p)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	listens := make(chan struct{})
	forwarder, err := portforward.NewOnAddressesForStreamingWithContext(ctx, dialer,
		[]string{"127.0.0.1"}, []string{fmt.Sprintf("%d:%d", local, remote)}, listens,
		io.Discard, io.Discard)
	if err != nil {
		return err
	}
	var broken error // is set before that is closed
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		broken = forwarder.ForwardPorts()
	}()
	select {
	case <-ended:
		return broken
	case <-listens:
	}
	ports, err := forwarder.GetPorts()
	if err == nil {
		err = ready(ports[0].Local)
	}
	if err != nil {
		cancel()
	}
	<-ended
	return cmp.Or(err, broken)
}

// dialer connects to a pod through the API server, by the newest way that there is.
func (c *Cluster) dialer(p Pod) (httpstream.Dialer, error) {
	where := c.address(p, "portforward", nil)
	transport, upgrader, err := spdy.RoundTripperFor(c.config)
	if err != nil {
		return nil, err
	}
	old := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport},
		http.MethodPost, where)
	tunnel, err := portforward.NewSPDYOverWebsocketDialerForStreaming(where, c.config)
	if err != nil {
		return nil, err
	}
	return portforward.NewFallbackDialerForStreaming(tunnel, old, oldWay), nil
}
