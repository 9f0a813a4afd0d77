// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// The life of an attachment can be read from its events, over a restart too.
func TestEventsOfALife(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	a := d.attach("one", nstest.New(t), api.Fail)
	d.wantEvent(api.EventAttach, "failure policy Fail")
	d.attach("one", nstest.Open(t, a.Netns.Path), api.Fail) // once more is no event
	events, err := d.Events(t.Context())
	must(t, err)
	if len(events) != 1 || events[0].Key != a.Key || events[0].Netns != a.Netns.Cookie {
		t.Errorf("%+v", events)
	}
	d.restart()
	d.wantEvent(api.EventTakeOver, "inspected again")
	must(t, d.Detach(t.Context(), a.Key))
	d.wantEvent(api.EventDetach, "no longer inspected")
}
