// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
)

func TestHandover(t *testing.T) {
	for name, tt := range map[string]struct {
		handover api.Handover
		want     []string
	}{
		"standby of a rollout": {handover: api.Handover{
			Role: api.RoleActive, Peers: []api.HandoverPeer{{
				Role: api.RoleStandby, Version: "v1", Since: time.Now().Add(-time.Minute),
			}},
		}},
		"standby for long": {
			handover: api.Handover{Role: api.RoleActive, Peers: []api.HandoverPeer{{
				Role: api.RoleStandby, Version: "v1", Since: time.Now().Add(-25 * time.Hour),
			}}},
			want: []string{"warning hand-over : a supervisor of version v1 has been a standby for 25h: " +
				"its pod or container was not ended after the hand-over"},
		},
		"refused": {
			handover: api.Handover{
				Role: api.RoleActive, Refusals: 2, LastRefusal: &api.HandoverRefusal{
					At: time.Now().Add(-5 * time.Minute), Version: "v3", Instance: "a/b", Reason: "no room",
				},
			},
			want: []string{"warning hand-over a/b: 2 take-overs did not come about, the last one 5m ago, " +
				"of version v3: no room"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t)
			p.daemon.Info.Supervisor.Handover = &tt.handover
			p.want(tt.want...)
		})
	}
}
