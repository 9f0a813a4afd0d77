// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// A node that is drained does not make the daemon forget what went wrong.
func TestRoutineIsApart(t *testing.T) {
	j := newEvents(nil)
	j.add(api.Event{Kind: api.EventSecurity})
	for i := range 2 * eventsLength {
		j.add(api.Event{Kind: api.EventAttach, Time: time.Unix(int64(i), 0)})
	}
	list := j.list()
	if len(list) != 1+eventsLength || list[0].Kind != api.EventSecurity {
		t.Errorf("%d events, the first is %v", len(list), list[0].Kind)
	}
	if last := list[eventsLength].Time; !last.Equal(time.Unix(2*eventsLength-1, 0)) {
		t.Errorf("the last event is of %s", last)
	}
}
