// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// What a rule refuses is shown with the rule, to who asks for the rule and the verdict.
func TestRefusalShown(t *testing.T) {
	r := newRulesRig(t, api.Fail, refusing(badName))
	r.serve(t)
	a := newPod(t, r.network, "agents/a")
	cmd := r.operator(t, "watch", "-o", "json", "--count", "1", "--verdict", "reject",
		"--rule", "sandbox/unwanted")
	var stdout, stderr said
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	nstest.Must(t, cmd.Start())
	nstest.Eventually(t, patience, "it watches", func() bool {
		return strings.Contains(stderr.String(), "watching")
	})
	r.checkNames(t, a, goodName, badName)
	nstest.Must(t, cmd.Wait())
	var e api.PacketEvent
	nstest.Must(t, json.Unmarshal([]byte(stdout.String()), &e))
	if e.Rule != "sandbox/unwanted" || e.Verdict != "reject" || e.Pod.String() != "agents/a" ||
		netip.AddrPortFrom(e.Destination, e.DestinationPort).String() != address(r.server.IPv4) || e.Direction != "out" {
		t.Errorf("%+v", e)
	}
	nstest.Eventually(t, patience, "an event about the refusal", func() bool {
		return len(r.refusals(t, "--rule", "sandbox", "--verdict", "reject")) == 1
	})
	event := r.refusals(t)[0]
	if event.Refusal.Rule != e.Rule || event.Refusal.Name != badName || event.Pod != e.Pod ||
		event.Refusal.Address != r.server.IPv4.String() || event.Netns == 0 {
		t.Errorf("%+v", event)
	}
	if n := len(r.refusals(t, "--rule", "sandbox/other")) + len(r.refusals(t, "--verdict", "drop")); n > 0 {
		t.Errorf("%d events pass filters that are about others", n)
	}
	text := run(t, r.operator(t).Path, "describe", "agents/a", "--socket", r.Socket())
	if !strings.Contains(text, "Refused:") || !strings.Contains(text, badName) {
		t.Errorf("describe does not show it:\n%s", text)
	}
}

// refusals returns the events about what rules refused.
func (r *rulesRig) refusals(t *testing.T, flags ...string) []api.Event {
	t.Helper()
	var list api.EventList
	out := r.ctl(t, append([]string{"events", "-o", "json"}, flags...)...)
	nstest.Must(t, json.Unmarshal(out, &list))
	return slices.DeleteFunc(list.Events, func(e api.Event) bool {
		return e.Kind != api.EventRefusal
	})
}

// Where nsqueued may open no raw socket, what is rejected is dropped, and it says so.
func TestRejectWithoutRawSocket(t *testing.T) {
	r := newRulesRig(t, api.Fail, refusing(badName), "setpriv", "--bounding-set", "-net_raw")
	r.serve(t)
	raw := newPod(t, r.network, "agents/a").NetNS.DialTCP(t, address(r.server.IPv4))
	expire(t, raw)
	ended := make(chan error, 1)
	go func() {
		ended <- tls.Client(raw, &tls.Config{ServerName: badName}).HandshakeContext(t.Context())
	}()
	nstest.Eventually(t, patience, "a rejected packet is untold", func() bool {
		s, err := r.Client.Status(t.Context())
		nstest.Must(t, err)
		return s.Untold != nil && s.Untold.NoSocket > 0 && s.Untold.NotPermitted &&
			s.Counters.Untold > 0
	})
	nstest.Must(t, raw.SetDeadline(time.Now()))
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the client is told %v, want nothing", err)
	}
}
