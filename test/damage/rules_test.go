// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package damage

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/damage/load"
	"github.com/nsqueue/nsqueue/test/nstest"
)

const ruleSet = `apiVersion: nsqueue.io/v1alpha1
kind: RuleSet
metadata: {name: damage}
spec:
  midstream: judge
  default: %s
  rules:
  - {name: pings, when: 'flow.protocol.startsWith("icmp")', action: accept}
  - {name: now, when: server.port == %d, action: drop}
  - {name: known, when: tls.sni == "known.example", action: accept}
  - {name: load, when: 'flow.protocol == "udp"', action: accept, settle: false}
`

// refusedPort is that of datagrams that nobody is to get.
const refusedPort = 4242

// newJudge is a rig whose daemon decides by rules.
func newJudge(t *testing.T, policy api.Policy, fallback string) *rig {
	t.Helper()
	r := newRig(t, policy)
	r.inspector = nsqueued
	r.args = []string{"--rules", r.rules()}
	nstest.Must(t, os.Mkdir(r.rules(), 0o700))
	r.writeRules(fallback, refusedPort)
	r.start()
	return r
}

func (r *rig) rules() string { return filepath.Join(r.dir, "rules.d") }

func (r *rig) writeRules(fallback string, port int) {
	r.t.Helper()
	text := fmt.Appendf(nil, ruleSet, fallback, port)
	nstest.Must(r.t, replaceFile(filepath.Join(r.rules(), "damage.yaml"), text))
}

// reload returns when the daemon has other rules.
func (r *rig) reload(port int) {
	r.t.Helper()
	r.writeRules("accept", port)
	rules, err := r.client.ReloadRules(r.t.Context())
	nstest.Must(r.t, err)
	if len(rules.Errors) > 0 {
		r.t.Errorf("rules are not reloaded: %v", rules.Errors)
	}
}

// TestRulesReloaded changes the rules again and again under load: no packet is lost,
// and none passes that was not judged.
func TestRulesReloaded(t *testing.T) {
	r := newJudge(t, api.Ignore, "accept")
	pods := r.pods(3)
	before := r.status().Counters
	got := r.underLoad(pods, func() {
		for n := range 20 {
			wait(100 * time.Millisecond)
			r.reload(1 + n)
		}
	})
	after := r.status().Counters
	if judged := after.Accepted - before.Accepted; got.Lost > 0 || judged < uint64(got.Sent) {
		t.Errorf("%v; %d judged, want all, and none lost", got, judged)
	}
}

// TestKilledWorkerKeepsDecisions kills a daemon that has decided. What was accepted
// goes on, although the next daemon never sees its hello and refuses what it does not
// know; what was refused stays so, although the policy is to accept.
func TestKilledWorkerKeepsDecisions(t *testing.T) {
	r := newJudge(t, api.Ignore, "reject")
	p := r.attach("pod")
	refused := p.peer.ListenUDP(t, netip.AddrPortFrom(p.peer.IPv4(), refusedPort).String())
	from := p.DialUDP(t, refused.LocalAddr().String())
	try := func() {
		// Only the kernel says at once that it refuses.
		if _, err := from.Write([]byte("not wanted")); !errors.Is(err, syscall.EPERM) {
			nstest.Must(t, err)
		}
	}
	nstest.Eventually(t, patience, "the kernel refuses a datagram", func() bool {
		try()
		d, err := r.client.Describe(t.Context(), p.key)
		nstest.Must(t, err)
		return d.HookCounters.Settled > 0
	})
	accepted := r.dialEcho(p)
	accepted.say(hello("known.example"))
	generation := r.generation()
	for range 5 {
		for range 20 {
			accepted.say([]byte("still here"))
			try()
		}
		wait(r.deathWindow) // what dies again and again is something else
		before := r.status().PID
		nstest.Must(t, syscall.Kill(before, syscall.SIGKILL))
		r.awaitWorker(before)
	}
	accepted.say([]byte("still here"))
	nstest.Must(t, refused.SetReadDeadline(time.Now()))
	if n, err := refused.Read(make([]byte, 64)); err == nil {
		t.Errorf("%d bytes arrived that are refused", n)
	}
	if got := r.generation(); got != generation {
		t.Errorf("generation %d, want %d as before: the rules are the same", got, generation)
	}
}

// TestUndecidedFlows has clients open more connections to a pod than are remembered, and
// none say who they want. Packets of other pods go on.
func TestUndecidedFlows(t *testing.T) {
	const flows, rate = 100_000, 20_000
	r := newJudge(t, api.Ignore, "accept")
	crowded := r.attach("crowded")
	peer := crowded.peer.IPv4()
	crowded.Run(t, "ip", "route", "add", load.Strangers, "via", peer.String())
	others := r.pods(2)
	before := r.status().Counters
	got := r.underLoad(others, func() {
		nstest.Must(t, crowded.peer.Try(func() error {
			return load.Open(netip.AddrPortFrom(crowded.IPv4(), 443), flows, rate)
		}))
	})
	judged := r.status().Counters.Packets - before.Packets
	if got.Lost > 0 || judged < flows+uint64(got.Sent) {
		t.Errorf("%v; %d judged, want all, and none lost", got, judged)
	}
}

// generation returns that of the only attachment, as its record has it.
func (r *rig) generation() int {
	r.t.Helper()
	files, err := filepath.Glob(filepath.Join(r.dir, "attachments", "*"))
	nstest.Must(r.t, err)
	if len(files) != 1 {
		r.t.Fatalf("records %q, want one", files)
	}
	b, err := os.ReadFile(files[0])
	nstest.Must(r.t, err)
	var record struct {
		Generation int `json:"generation"`
	}
	nstest.Must(r.t, json.Unmarshal(b, &record))
	return record.Generation
}

// echo is a connection whose server says what it hears.
type echo struct {
	t    *testing.T
	conn net.Conn
}

// dialEcho connects a pod to its peer.
func (r *rig) dialEcho(p *pod) *echo {
	r.t.Helper()
	l := p.peer.ListenTCP(r.t, netip.AddrPortFrom(p.peer.IPv4(), 443).String())
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, _ = io.Copy(conn, conn) // the client sees what comes of it
		}
	}()
	return &echo{r.t, p.DialTCP(r.t, l.Addr().String())}
}

// say expects to hear it again.
func (e *echo) say(b []byte) {
	e.t.Helper()
	nstest.Must(e.t, e.conn.SetDeadline(time.Now().Add(patience)))
	_, err := e.conn.Write(b)
	nstest.Must(e.t, err)
	heard := make([]byte, len(b))
	_, err = io.ReadFull(e.conn, heard)
	nstest.Must(e.t, err)
	if !bytes.Equal(heard, b) {
		e.t.Errorf("heard %q, want %q", heard, b)
	}
}

// hello returns what a client of TLS says first.
func hello(name string) []byte {
	here, there := net.Pipe()
	defer here.Close()
	go func() { _ = tls.Client(there, &tls.Config{ServerName: name}).Handshake() }()
	b := make([]byte, 4096)
	n, _ := here.Read(b)
	return b[:n]
}
