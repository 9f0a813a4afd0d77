// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"net"
	"sync"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// opened is where an inspector saw connections go to.
type opened struct {
	mu sync.Mutex
	to map[target]bool
}

type target struct {
	direction inspect.Direction
	port      uint16
}

func (o *opened) inspect(p *inspect.Packet) inspect.Verdict {
	if f, ok := p.Flow(); ok && f.Protocol == inspect.ProtoTCP {
		o.mu.Lock()
		o.to[target{p.Direction, f.DestinationPort}] = true
		o.mu.Unlock()
	}
	return inspect.Verdict{Action: inspect.Accept}
}

func (o *opened) saw(direction inspect.Direction, port uint16) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.to[target{direction, port}]
}

// connect opens a connection, which a listener accepts, and closes it.
func connect(t *testing.T, from *nstest.NetNS, addr string, accepts *net.TCPListener) {
	t.Helper()
	conn := from.DialTCP(t, addr)
	defer conn.Close()
	accepted, err := accepts.Accept()
	nstest.Must(t, err)
	nstest.Must(t, accepted.Close())
}

// A sidecar takes connections by REDIRECT. Of those that come, the inspector sees
// the sidecar's port. Of those that go, it sees the peer's, and nothing of the
// way between program and sidecar.
func TestSidecarRedirects(t *testing.T) {
	saw := &opened{to: make(map[target]bool)}
	d := start(t, inspect.Func(saw.inspect))
	pod, peer := nstest.Pair(t)
	d.attach("one", pod, api.Fail)
	for chain, ports := range map[string][2]string{
		"PREROUTING": {"23", "15006"}, "OUTPUT": {"80", "15001"},
	} {
		pod.Run(t, "iptables", "-t", "nat", "-A", chain, "-p", "tcp", "--dport", ports[0],
			"-j", "REDIRECT", "--to-ports", ports[1])
	}
	inbound, outbound := pod.ListenTCP(t, ":15006"), pod.ListenTCP(t, ":15001")
	server := peer.ListenTCP(t, ":8080")
	connect(t, peer, pod.IPv4().String()+":23", inbound)
	connect(t, pod, peer.IPv4().String()+":80", outbound)
	connect(t, pod, peer.IPv4().String()+":8080", server) // the sidecar's own
	for _, tt := range []struct {
		direction inspect.Direction
		port      uint16
		want      bool
	}{
		{inspect.In, 15006, true},
		{inspect.In, 23, false},
		{inspect.Out, 80, true},
		{inspect.Out, 15001, false},
		{inspect.In, 15001, false},
		{inspect.Out, 8080, true},
	} {
		if got := saw.saw(tt.direction, tt.port); got != tt.want {
			t.Errorf("%s to port %d: seen %t, want %t", tt.direction, tt.port, got, tt.want)
		}
	}
}

// What a pod sends to itself, at its own address or to localhost, is not queued.
func TestLoopbackIsNotSeen(t *testing.T) {
	saw := &opened{to: make(map[target]bool)}
	d := start(t, inspect.Func(saw.inspect))
	pod, _ := nstest.Pair(t)
	d.attach("one", pod, api.Fail)
	server := pod.ListenTCP(t, ":8080")
	connect(t, pod, "127.0.0.1:8080", server)
	connect(t, pod, pod.IPv4().String()+":8080", server)
	if len(saw.to) != 0 {
		t.Errorf("saw %v", saw.to)
	}
}

// Beside a table that another socket owns, nft restores what it lists by family or
// by table. Of a whole ruleset it restores nothing.
func TestRulesetIsRestoredByTable(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod := nstest.New(t)
	a := d.attach("one", pod, api.Fail)
	pod.Run(t, "nft", "add table ip mine; add chain ip mine c")
	restore := func(script string) error {
		return pod.Command("sh", "-ec", script).Run()
	}
	if err := restore("rules=$(nft list ruleset); printf '%s\\n' \"$rules\" | nft -f -"); err == nil {
		t.Error("the whole ruleset was restored: say so in docs/security.md")
	}
	for _, script := range []string{
		"rules=$(nft list table ip mine); printf '%s\\n' 'delete table ip mine' \"$rules\" | nft -f -",
		"rules=$(nft list ruleset ip); printf '%s\\n' 'flush ruleset ip' \"$rules\" | nft -f -",
	} {
		if err := restore(script); err != nil {
			t.Errorf("%s: %v", script, err)
		}
		pod.Run(t, "nft", "list", "table", "ip", "mine")
	}
	nstest.Must(t, d.Check(t.Context(), a.Key))
}
