// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package damage

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/damage/load"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// outsiders are what a configuration says of the marker. Pods without a name are its own.
const outsiders = `inspectors:
- name: marker
  socket: %s
  transport: %s
  budget: 2s
  pods: {when: pod.name == ""}
`

// newOutside is a rig whose packets a program outside the daemon judges.
func newOutside(t *testing.T, policy api.Policy, transport string) *rig {
	t.Helper()
	r := newRig(t, policy)
	r.withMarker(transport)
	r.start()
	return r
}

// withMarker has a marker judge the packets of the rig.
func (r *rig) withMarker(transport string) {
	r.inspector, r.silence = nsqueued, 2*time.Second // under Fail, some is lost each time
	r.more = fmt.Sprintf(outsiders, r.markerSocket(), transport)
}

func (r *rig) markerSocket() string { return filepath.Join(r.dir, "inspectors", "marker.sock") }

// mark starts a marker, and returns it when it is connected.
func (r *rig) mark() *exec.Cmd {
	r.t.Helper()
	return r.outsider("test/marker")
}

// outsider starts an inspector, and returns it when it is connected.
func (r *rig) outsider(program string) *exec.Cmd {
	r.t.Helper()
	cmd := exec.Command(filepath.Join(chain.BinDir(r.t, program), program), r.markerSocket())
	nstest.Must(r.t, cmd.Start())
	r.t.Cleanup(func() { r.kill(cmd) })
	r.awaitMarker("is connected", func(s *api.InspectorState) bool { return isMarker(s, cmd) })
	return cmd
}

// isMarker reports whether a marker is the one that is connected. A daemon in another PID
// namespace cannot tell.
func isMarker(s *api.InspectorState, cmd *exec.Cmd) bool {
	return s.Connected && (s.PID == cmd.Process.Pid || s.PID == 0)
}

// kill ends a marker, if it is there.
func (r *rig) kill(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// awaitMarker waits for a state of the marker.
func (r *rig) awaitMarker(what string, is func(*api.InspectorState) bool) {
	r.t.Helper()
	nstest.Eventually(r.t, patience, "the marker "+what, func() bool {
		list := r.status().Inspectors
		return len(list) == 1 && is(&list[0])
	})
}

// countUnmarked has a rule of the pod count datagrams that come in without the mark.
func (p *pod) countUnmarked(t *testing.T) {
	t.Helper()
	p.Run(t, "nft", "add table ip marks; add chain ip marks in { type filter hook input "+
		"priority 0; }; add rule ip marks in meta l4proto udp meta mark & "+
		fmt.Sprintf("%#x", load.Mark)+" == 0 counter")
}

// unmarked returns how many there were.
func (p *pod) unmarked(t *testing.T) (n int) {
	t.Helper()
	var found struct {
		Nftables []struct {
			Rule struct {
				Expr []struct{ Counter struct{ Packets int } }
			}
		}
	}
	text := p.Run(t, "nft", "-j", "list chain ip marks in")
	nstest.Must(t, json.NewDecoder(strings.NewReader(text)).Decode(&found))
	for _, one := range found.Nftables {
		for _, e := range one.Rule.Expr {
			n += e.Counter.Packets
		}
	}
	return n
}

// TestKilledInspector kills an inspector outside again and again: nothing is lost under
// Ignore, nothing passes uninspected under Fail, and the next one goes on.
func TestKilledInspector(t *testing.T) {
	for _, tt := range []struct {
		policy    api.Policy
		transport string
	}{{api.Ignore, "messages"}, {api.Fail, "memfd"}} {
		t.Run(string(tt.policy), func(t *testing.T) {
			kills := often(10)
			r := newOutside(t, tt.policy, tt.transport)
			marker := r.mark()
			pods := r.pods(2)
			for _, p := range pods {
				p.countUnmarked(t)
			}
			got := r.underLoad(pods, func() {
				for range kills {
					wait(200 * time.Millisecond)
					r.kill(marker)
					marker = r.mark()
				}
				before := r.status().Inspectors[0].Counters.Answered
				r.awaitMarker("goes on", func(s *api.InspectorState) bool {
					return s.Counters.Answered > before
				})
			})
			unmarked := 0
			for _, p := range pods {
				unmarked += p.unmarked(t)
			}
			n := r.status().Inspectors[0].Counters
			t.Logf("%d sent, %d lost, %d not inspected; %+v", got.Sent, got.Lost, unmarked, n)
			failed := int(n.Lost + n.Late + n.Away + n.Overflow)
			if tt.policy == api.Ignore && (got.Lost > 0 || unmarked > failed) {
				t.Errorf("%d lost, want none; %d not inspected, want %d at most", got.Lost,
					unmarked, failed)
			}
			if tt.policy == api.Fail && (unmarked > 0 || got.Lost > failed) {
				t.Errorf("%d not inspected, want none; %d lost, want %d at most", unmarked,
					got.Lost, failed)
			}
			if n.Answered == 0 || n.Connections != uint64(kills)+1 || n.Malformed > 0 {
				t.Errorf("counters %+v", n)
			}
		})
	}
}

// TestStoppedInspector stops one: its packets get onFailure after the budget, and those of
// a pod that it does not read never wait for it.
func TestStoppedInspector(t *testing.T) {
	r := newOutside(t, api.Ignore, "messages")
	r.more = strings.Replace(r.more, "budget: 2s", "budget: 50ms", 1)
	r.more = strings.Replace(r.more, `pod.name == ""`, `pod.interface == "eth0"`, 1)
	nstest.Must(t, r.stop(syscall.SIGTERM))
	r.start()
	marker := r.mark()
	its, other := r.attach("its"), r.attachAs(api.Key{ContainerID: "other", Ifname: "net1"})
	other.countUnmarked(t)
	got := r.underLoad([]*pod{its, other}, func() {
		wait(200 * time.Millisecond)
		nstest.Must(t, marker.Process.Signal(syscall.SIGSTOP))
		r.awaitMarker("has stalled", func(s *api.InspectorState) bool { return s.Stalled })
		wait(500 * time.Millisecond)
		before := r.status().Inspectors[0].Counters
		if before.Late == 0 || before.Away == 0 {
			t.Errorf("counters %+v", before)
		}
		nstest.Must(t, marker.Process.Signal(syscall.SIGCONT))
		r.awaitMarker("has caught up", func(s *api.InspectorState) bool {
			return !s.Stalled && s.Counters.Answered > before.Answered
		})
	})
	if got.Lost > 0 {
		t.Errorf("%d lost, want none", got.Lost)
	}
	if n := other.unmarked(t); n < got.Sent/4 {
		t.Errorf("%d packets passed the pod that the inspector does not read", n)
	}
}
