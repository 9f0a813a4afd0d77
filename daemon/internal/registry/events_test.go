// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
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

// Refusals make nobody forget other events, nor those of another pod, and those that are
// alike are one.
func TestRefusalsAreApart(t *testing.T) {
	j := newEvents(nil)
	key := func(id string) api.Key { return api.Key{ContainerID: id, Ifname: "eth0"} }
	j.add(api.Event{Kind: api.EventSecurity})
	j.add(api.Event{Kind: api.EventAttach})
	refuse := func(id, name string) {
		j.add(api.Event{
			Kind: api.EventRefusal, Key: key(id),
			Refusal: api.Refusal{Rule: "a/b", Name: name, Count: 1, Suppressed: 2},
		})
	}
	refuse("quiet", "a.example")
	for i := range 2 * eventsLength {
		refuse("busy", fmt.Sprint(i))
	}
	refuse("quiet", "a.example")
	if list := j.list(); len(list) != 2+1+refusalsOfOne {
		t.Errorf("%d events", len(list))
	}
	quiet := j.about(key("quiet"))
	if len(quiet) != 1 || quiet[0].Refusal.Count != 2 || quiet[0].Refusal.Suppressed != 4 {
		t.Errorf("%+v", quiet)
	}
	for i := range 2 * eventsLength {
		refuse(fmt.Sprint(i), "")
	}
	if len(j.refusals) != eventsLength || len(j.list()) != 2+eventsLength {
		t.Errorf("%d refusals of %d events", len(j.refusals), len(j.list()))
	}
}
