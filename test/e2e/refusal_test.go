// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

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
}
