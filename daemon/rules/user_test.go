// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"testing"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

const byUser = `
  pods: {namespaces: [agents]}
  default: accept
  rules: [{name: root, when: socket.uid == 0, action: reject}]`

func TestRuleOnSocketUID(t *testing.T) {
	i := New(Options{Rules: mustCompile(t, set("s", byUser))})
	agent := &inspect.Attachment{PodNamespace: "agents", PodName: "a"}
	i.Attached(agent)
	for n, tt := range []struct {
		uid  int64
		want inspect.Action
	}{
		{-1, inspect.Accept}, {0, inspect.Reject}, {1000, inspect.Accept},
	} {
		p := datagram(agent, uint16(n+1), 80)
		p.UID = tt.uid
		if v := i.Inspect(p); v.Action != tt.want {
			t.Errorf("user %d: %+v", tt.uid, v)
		}
	}
}

// The kernel is asked for users of those pods whose rules of now or to come read them.
func TestSocketUIDIsNeeded(t *testing.T) {
	i := New(Options{Rules: mustCompile(t, set("s", byUser))})
	agent := &inspect.Attachment{PodNamespace: "agents"}
	other := &inspect.Attachment{PodNamespace: "others"}
	if n := i.NeedsOf(agent); !n.SocketUID || n.CopyRange != headersOnly {
		t.Errorf("%+v", n)
	}
	if i.NeedsOf(other).SocketUID || i.Needs().SocketUID {
		t.Error("it is needed of others")
	}
	i.Attached(agent)
	for _, tt := range []struct {
		spec             string
		before, thenOnly bool
	}{{ports, true, false}, {byUser, true, true}} {
		changes, done := i.AttachmentChanges(), make(chan struct{})
		go func() {
			defer close(done)
			replace(t, i, mustCompile(t, set("s", tt.spec)))
		}()
		c := <-changes
		if got := i.NeedsOf(agent).SocketUID; got != tt.before {
			t.Errorf("before: %t", got)
		}
		c.Apply()
		<-done
		if got := i.NeedsOf(agent).SocketUID; got != tt.thenOnly {
			t.Errorf("after: %t", got)
		}
	}
}
