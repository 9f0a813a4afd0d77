// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// Under Fail no interface is attached that is received for elsewhere, but what an
// earlier daemon attached stays.
func TestReceivedElsewhere(t *testing.T) {
	for _, tt := range []struct {
		policy              api.Policy
		restored, elsewhere bool
		refused             bool
	}{
		{api.Fail, false, true, true},
		{api.Fail, true, true, false},
		{api.Fail, false, false, false},
		{api.Ignore, false, true, false},
	} {
		a := &attachment{restored: tt.restored, record: state.Record{FailurePolicy: tt.policy}}
		r := &Registry{elsewhere: func(*netns.NetNS, string) (bool, error) {
			return tt.elsewhere, nil
		}}
		elsewhere, err := r.receivesElsewhere(a, nil)
		if (err != nil) != tt.refused || elsewhere != tt.elsewhere {
			t.Errorf("%+v: elsewhere %t, %v", tt, elsewhere, err)
		}
	}
}
