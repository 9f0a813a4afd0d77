// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package damage

import (
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// TestKilledWorker kills the daemon again and again. Only what it had in its
// hands may be lost (Fail) or pass uninspected (Ignore).
func TestKilledWorker(t *testing.T) {
	for _, policy := range []api.Policy{api.Ignore, api.Fail} {
		t.Run(string(policy), func(t *testing.T) {
			kills := often(20)
			r := newRig(t, policy)
			r.start()
			pods := r.pods(3)
			tcp, err := startStream(pods[0].peer, pods[0].NetNS, pods[0].IPv4(), "200M", kills/2)
			nstest.Must(t, err)
			orphans := 0
			got := r.underLoad(pods, func() {
				for range kills {
					wait(350 * time.Millisecond)
					before := r.status().PID
					nstest.Must(t, syscall.Kill(before, syscall.SIGKILL))
					orphans += int(r.awaitWorker(before).Orphans)
				}
			})
			stall, err := tcp.stall()
			nstest.Must(t, err)
			t.Logf("%d orphans, TCP stalled for at most %v", orphans, stall)
			if policy == api.Ignore && (got.Lost > 0 || got.Uninspected > orphans) {
				t.Errorf("%v; want none lost, at most %d uninspected", got, orphans)
			}
			if policy == api.Fail && (got.Lost > orphans || got.Uninspected > 0) {
				t.Errorf("%v; want at most %d lost, none uninspected", got, orphans)
			}
		})
	}
}
