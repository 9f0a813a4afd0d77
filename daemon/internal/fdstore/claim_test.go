// SPDX-License-Identifier: Apache-2.0

package fdstore

import (
	"errors"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/internal/succession"
)

// What comes from a supervisor that may take it back is contested until it is claimed: by
// this daemon, or by that supervisor.
func TestClaim(t *testing.T) {
	for name, tt := range map[string]struct {
		alone, revoked     bool
		contested, claimed bool
	}{
		"this daemon is first":    {contested: true, claimed: true},
		"the supervisor is first": {revoked: true, contested: true},
		"there is no other one":   {alone: true, claimed: true},
	} {
		t.Run(name, func(t *testing.T) {
			lease, err := succession.NewLease()
			if err != nil {
				t.Fatal(err)
			}
			defer lease.Close()
			ours, theirs, err := succession.Pair()
			if err != nil {
				t.Fatal(err)
			}
			defer theirs.Close()
			read, _ := lease.Ends()
			s := &Store{lease: succession.LeaseOf(read, -1), waiting: ours}
			start := &succession.Message{Kind: succession.Start, Alone: tt.alone}
			if err := errors.Join(theirs.Send(start), s.Await(nil)); err != nil {
				t.Fatal(err)
			}
			if s.Contested() != tt.contested || s.Revoked() {
				t.Errorf("contested %t, revoked %t at first", s.Contested(), s.Revoked())
			}
			if tt.revoked && !lease.Claim() {
				t.Fatal("the lease is claimed")
			}
			if s.Revoked() != tt.revoked {
				t.Errorf("revoked %t, want %t", s.Revoked(), tt.revoked)
			}
			for range 2 {
				if err := s.Claim(); (err == nil) != tt.claimed {
					t.Errorf("claim: %v", err)
				}
			}
			if s.Revoked() && tt.claimed {
				t.Error("revoked by its own claim")
			}
		})
	}
}
