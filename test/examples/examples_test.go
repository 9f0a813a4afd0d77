// SPDX-License-Identifier: Apache-2.0

//go:build netns

// Package examples runs the programs of examples/ as a user would, and tests that
// each does what its README says.
package examples

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// patience is how long a test waits for what should come at once; it only ends
// what hangs.
const patience = time.Minute

// rig is an example that runs as the node's daemon, a pod that it inspects, and a
// peer that it does not.
type rig struct {
	*chain.Daemon
	pod, peer *nstest.NetNS
	key       api.Key
}

// start builds an example, starts it, and attaches the pod.
func start(t *testing.T, example string) *rig {
	t.Helper()
	program := filepath.Join(t.TempDir(), example)
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./examples/"+example)
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", example, err, out)
	}
	// What the example before has left.
	nstest.Must(t, os.RemoveAll(filepath.Dir(api.DefaultSocket)))
	r := &rig{key: api.Key{ContainerID: "pod1", Ifname: "eth0"}}
	r.pod, r.peer = nstest.Pair(t)
	r.Daemon = chain.NewDaemon(chain.DaemonConfig{
		// The example takes no flags; these would be nsqueued's.
		Wrap: []string{"sh", "-c", `exec "$0"`, program},
	})
	nstest.Must(t, r.Start(t.Context()))
	t.Cleanup(func() {
		nstest.Must(t, r.Stop())
		if t.Failed() {
			t.Log(r.Log.String())
		}
	})
	_, err := r.Client.Attach(t.Context(), api.AttachRequest{
		Key: r.key, Origin: api.OriginManual, NetnsPath: r.pod.Path(),
		Pod: api.Pod{Namespace: "default", Name: "pod1"},
	}, nil)
	nstest.Must(t, err)
	return r
}

// counters are those of the pod.
func (r *rig) counters(t *testing.T) api.Counters {
	t.Helper()
	list, err := r.Client.List(t.Context())
	nstest.Must(t, err)
	if len(list.Attachments) != 1 {
		t.Fatalf("attachments: %+v", list.Attachments)
	}
	return list.Attachments[0].Counters
}

// await waits until the pod's counters are as wanted.
func (r *rig) await(t *testing.T, what string, ok func(c api.Counters) bool) {
	t.Helper()
	nstest.Eventually(t, patience, what, func() bool { return ok(r.counters(t)) })
}

// at is a port of the peer.
func (r *rig) at(port uint16) string { return netip.AddrPortFrom(r.peer.IPv4(), port).String() }

// dialRefused tries to connect to a port of the peer, until one packet more is
// dropped.
func (r *rig) dialRefused(t *testing.T, port uint16) {
	t.Helper()
	dropped := r.counters(t).Dropped
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		result <- r.pod.Try(func() error {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", r.at(port))
			if err == nil {
				_ = conn.Close()
			}
			return err
		})
	}()
	r.await(t, "the SYN is dropped", func(c api.Counters) bool { return c.Dropped > dropped })
	cancel()
	if err := <-result; err == nil {
		t.Errorf("port %d answers", port)
	}
}

// udp is a flow of datagrams from the pod to a port of the peer.
type udp struct {
	client, server *net.UDPConn
	// marker sends to the server from the peer itself, past the inspector.
	marker *net.UDPConn
}

func (r *rig) udp(t *testing.T, port uint16) *udp {
	t.Helper()
	return &udp{
		server: r.peer.ListenUDP(t, r.at(port)),
		client: r.pod.DialUDP(t, r.at(port)),
		marker: r.peer.DialUDP(t, r.at(port)),
	}
}

func send(t *testing.T, c *net.UDPConn, text string) {
	t.Helper()
	_, err := c.Write([]byte(text))
	// The kernel tells the sender what it drops itself.
	if err != nil && !errors.Is(err, syscall.EPERM) {
		t.Fatal(err)
	}
}

// receive returns the next datagram that the server gets.
func (u *udp) receive(t *testing.T) (text string, from net.Addr) {
	t.Helper()
	buf := make([]byte, 2000)
	nstest.Must(t, u.server.SetReadDeadline(time.Now().Add(nstest.Patient(patience))))
	n, from, err := u.server.ReadFrom(buf)
	nstest.Must(t, err)
	return string(buf[:n]), from
}

// passes fails unless datagrams arrive.
func (u *udp) passes(t *testing.T, count int) {
	t.Helper()
	for i := range count {
		text := "passes " + strconv.Itoa(i)
		send(t, u.client, text)
		for got := ""; got != text; {
			got, _ = u.receive(t)
		}
	}
}

// isStopped fails if datagrams arrive: the one that is sent after them, past the
// inspector, is the first that comes.
func (u *udp) isStopped(t *testing.T, count int) {
	t.Helper()
	for range count {
		send(t, u.client, "stopped")
	}
	send(t, u.marker, "marker")
	for got := ""; got != "marker"; {
		if got, _ = u.receive(t); got == "stopped" {
			t.Error("a datagram arrived that should not")
		}
	}
}

func TestNoTelnet(t *testing.T) {
	r := start(t, "no-telnet")
	r.peer.ListenTCP(t, r.at(23))
	r.peer.ListenTCP(t, r.at(7000))
	r.pod.DialTCP(t, r.at(7000))
	r.dialRefused(t, 23)
	r.udp(t, 23).passes(t, 3)
}

func TestDNSOnly(t *testing.T) {
	r := start(t, "dns-only")
	dns := r.udp(t, 53)
	send(t, dns.client, "question")
	question, from := dns.receive(t)
	_, err := dns.server.WriteTo([]byte("answer to "+question), from)
	nstest.Must(t, err)
	buf := make([]byte, 100)
	nstest.Must(t, dns.client.SetReadDeadline(time.Now().Add(nstest.Patient(patience))))
	n, err := dns.client.Read(buf)
	if got := string(buf[:n]); err != nil || got != "answer to question" {
		t.Errorf("the pod got %q, %v", got, err)
	}
	r.peer.ListenTCP(t, r.at(53))
	r.pod.DialTCP(t, r.at(53))

	const others = 5
	before := r.counters(t).Dropped
	other := r.udp(t, 5353)
	for range others {
		send(t, other.client, "stopped")
	}
	r.await(t, "they are dropped", func(c api.Counters) bool { return c.Dropped == before+others })
	other.isStopped(t, 0)
	// The pod's own port makes no difference.
	fake := r.pod.ListenUDP(t, netip.AddrPortFrom(r.pod.IPv4(), 53).String())
	_, err = fake.WriteToUDPAddrPort([]byte("stopped"), netip.MustParseAddrPort(r.at(5353)))
	nstest.Must(t, err)
	r.await(t, "it is dropped", func(c api.Counters) bool { return c.Dropped == before+others+1 })
	other.isStopped(t, 0)
	r.peer.ListenTCP(t, r.at(23))
	r.dialRefused(t, 23)
}

func TestHeaderOnly(t *testing.T) {
	const count, size, headers = 10, 1000, 28
	r := start(t, "header-only")
	u := r.udp(t, 7000)
	payload := strings.Repeat("x", size)
	for range count {
		send(t, u.client, payload)
		if got, _ := u.receive(t); got != payload {
			t.Errorf("the peer got %d bytes of %d", len(got), size)
		}
	}
	r.await(t, "all are counted", func(c api.Counters) bool { return c.Packets >= count })
	nstest.Must(t, r.Stop())
	want := fmt.Sprintf("pod1 udp {packets:%d bytes:%d copied:%d}\n",
		count, count*(size+headers), count*100)
	if !r.Log.Contains(want) {
		t.Errorf("it did not print %q:\n%s", want, r.Log.String())
	}
}

func TestChangingRules(t *testing.T) {
	const many = 20
	r := start(t, "changing-rules")
	u := r.udp(t, 8080)
	u.passes(t, 1)
	r.await(t, "the flow is settled", func(c api.Counters) bool { return c.Settled == 1 })
	u.passes(t, many)
	if c := r.counters(t); c.Packets != 1 {
		t.Errorf("%d packets of a settled flow were inspected", c.Packets)
	}

	r.changeRules(t)
	nstest.Eventually(t, patience, "the flow is blocked", func() bool {
		send(t, u.client, "late")
		return r.counters(t).Dropped > 0
	})
	u.isStopped(t, many)
	if c := r.counters(t); c.Dropped != 1 {
		t.Errorf("%d packets of a flow that is settled as dropped were inspected", c.Dropped)
	}

	blocked := r.counters(t)
	r.changeRules(t)
	nstest.Eventually(t, patience, "the flow is open again", func() bool {
		send(t, u.client, "early")
		return r.counters(t).Accepted > blocked.Accepted
	})
	u.passes(t, many)
}

func (r *rig) changeRules(t *testing.T) {
	t.Helper()
	nstest.Must(t, syscall.Kill(r.PID(), syscall.SIGHUP))
}

// An example is what a user reads first, and so is its README.
func TestExamplesAreShort(t *testing.T) {
	programs, err := filepath.Glob("../../examples/*/main.go")
	nstest.Must(t, err)
	if len(programs) == 0 {
		t.Error("there are no examples")
	}
	for _, program := range programs {
		dir := filepath.Dir(program)
		readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
		nstest.Must(t, err)
		source, err := os.ReadFile(program)
		nstest.Must(t, err)
		if lines := strings.Count(string(source), "\n"); lines >= 60 {
			t.Errorf("%s has %d lines, want fewer than 60", program, lines)
		}
		if lines := strings.Count(string(readme), "\n"); lines != 5 {
			t.Errorf("%s/README.md has %d lines, want 5", dir, lines)
		}
	}
}
