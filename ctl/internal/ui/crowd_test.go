// SPDX-License-Identifier: Apache-2.0

//go:build browser

package ui

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// crowd is a node with many pods, on which each packet begins a flow.
type crowd struct{ *api.Client }

const crowdPods = 1000

// crowdPod is one of them.
func crowdPod(i int) (api.Key, api.Pod) {
	return api.Key{ContainerID: fmt.Sprintf("%064d", i), Ifname: "eth0"},
		api.Pod{Namespace: "crowd", Name: fmt.Sprintf("pod-%d", i)}
}

// Watch has 1,000 packets a second, each of another flow.
func (*crowd) Watch(ctx context.Context, _ api.WatchRequest, ready func(),
	emit func([]api.PacketEvent) error,
) error {
	const pieces = 20 // a second
	ready()
	tick := time.NewTicker(time.Second / pieces)
	defer tick.Stop()
	for n := 0; ; {
		var events []api.PacketEvent
		for range 1000 / pieces {
			events = append(events, crowdPacket(n))
			n++
		}
		if err := emit(events); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func crowdPacket(n int) api.PacketEvent {
	key, pod := crowdPod(n % crowdPods)
	return api.PacketEvent{
		Packet: uint64(n), Time: time.Now(), Key: key, Pod: pod, Direction: "out", Protocol: "tcp",
		Length: 60, Verdict: "accept", Rule: "web/names",
		Source: netip.MustParseAddr("10.0.0.2"), SourcePort: uint16(32768 + n/crowdPods%20000),
		Destination: netip.MustParseAddr("203.0.113.7"), DestinationPort: 443,
	}
}

// TestCrowd has a browser look at 1,000 pods and 1,000 new flows a second. It sees that the
// page answers and that its document stays small; how smooth it is, it only tells.
func TestCrowd(t *testing.T) {
	d := &apitest.Daemon{Info: api.Status{Version: "v1.2.3"}}
	for i := range crowdPods {
		key, pod := crowdPod(i)
		d.Attachments = append(d.Attachments, api.Attachment{Key: key, Pod: pod, State: api.Active})
	}
	s := New(&crowd{api.NewClient(d.Start(t))})
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(t.Context(), l) }()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	node := exec.CommandContext(ctx, "node", "crowd.mjs", s.URL(l.Addr()))
	node.Dir, node.Stderr = "../../../test/ui", os.Stderr
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	well := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		verb, number, _ := strings.Cut(lines.Text(), " ")
		switch verb {
		case "gap":
			t.Logf("the longest time between two frames: %s ms", number)
		case "told":
			t.Logf("the feed told of flows %s times in 3 s", number)
		case "ok":
			well = true
		}
	}
	if err := node.Wait(); err != nil || !well {
		t.Errorf("the page does not do what it should: %v", err)
	}
}
