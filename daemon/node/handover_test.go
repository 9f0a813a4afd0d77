// SPDX-License-Identifier: Apache-2.0

package node

import (
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/succession"
)

// A daemon tells what its supervisor has written of itself.
func TestHandover(t *testing.T) {
	path := succession.ReportPath(t.TempDir())
	variables := map[string]string{fdstore.EnvRole: path}
	store, err := fdstore.FromEnvironment(fdstore.Environment{
		Getenv:   func(name string) string { return variables[name] },
		Unsetenv: func(string) error { return nil },
		Getppid:  func() int { return 1 },
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &supervised{Store: store, log: slog.New(slog.DiscardHandler)}
	if h := s.handover(); h != nil {
		t.Errorf("%+v without a report", h)
	}
	report := succession.Report{
		Role: succession.Active, Identity: succession.Identity{Version: "v2", Instance: "a/b"},
		Peers: []succession.PeerReport{{
			Role: succession.Standby, Identity: succession.Identity{Version: "v1", Instance: "a/b"},
		}},
		Refusals: 1, LastRefusal: &succession.Refusal{Reason: "no"}, Ending: true,
	}
	if err := report.Write(path); err != nil {
		t.Fatal(err)
	}
	want := &api.Handover{
		Role: api.RoleActive, Instance: "a/b", Refusals: 1, Ending: true,
		Peers:       []api.HandoverPeer{{Role: api.RoleStandby, Version: "v1", Instance: "a/b"}},
		LastRefusal: &api.HandoverRefusal{Reason: "no"},
	}
	if diff := cmp.Diff(want, s.handover()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
