// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"net/netip"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/rules"
	"github.com/nsqueue/nsqueue/test/nstest"
)

const byUser = `
apiVersion: nsqueue.io/v1alpha1
kind: RuleSet
metadata: {name: users}
spec:
  default: reject
  rules: [{name: one, when: flow.protocol != "udp" || socket.uid == 1000, action: accept}]`

// A rule on the user of the pod's socket decides by the kernel's word.
func TestRuleOnSocketUID(t *testing.T) {
	compiled, err := rules.Compile(rules.File{Name: "users.yaml", Data: []byte(byUser)})
	nstest.Must(t, err)
	d := start(t, rules.New(rules.Options{Rules: compiled}))
	pod, peer := nstest.Pair(t)
	d.attach("one", pod, api.Fail)
	to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String())
	before := d.counters("one")
	for _, uid := range []uint32{1001, 1000, 0} {
		pod.SendAs(t, uid, to.LocalAddr().String())
	}
	pod.SendInUserNS(t, 1000, to.LocalAddr().String())
	if got := receive(t, to, 2, reply); got != 2 {
		t.Errorf("%d datagrams of user 1000 arrived, want 2", got)
	}
	after := d.counters("one")
	if n := after.Rejected - before.Rejected; n != 2 {
		t.Errorf("%d datagrams of other users were rejected, want 2", n)
	}
}
