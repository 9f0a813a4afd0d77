// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

const names = `
  pods: {namespaces: [agents]}
  default: accept
  rules: [{name: sni, when: tls.sni == "a.example", action: reject}]`

func TestNeeds(t *testing.T) {
	i := New(Options{Rules: mustCompile(t, set("s", names))})
	agent := &inspect.Attachment{PodNamespace: "agents"}
	other := &inspect.Attachment{PodNamespace: "others"}
	if n := i.NeedsOf(agent); n.CopyRange != wholePackets || !n.Settles {
		t.Errorf("%+v", n)
	}
	if n := i.NeedsOf(other); n.CopyRange != headersOnly {
		t.Errorf("%+v", n)
	}
	if i.DigestOf(agent) == i.DigestOf(other) || i.DigestOf(agent) != New(i.options).DigestOf(agent) {
		t.Error("digests do not tell rules apart")
	}
}

// Until its change is carried out, a replacement changes nothing but the needs. Pods that
// came meanwhile are named by another change.
func TestChanges(t *testing.T) {
	i := New(Options{Rules: mustCompile(t, set("s", ports))})
	changes := i.AttachmentChanges()
	agent := &inspect.Attachment{PodNamespace: "agents", PodName: "a"}
	late := &inspect.Attachment{PodNamespace: "agents", PodName: "late"}
	other := &inspect.Attachment{PodNamespace: "others", PodName: "o"}
	i.Attached(agent)
	i.Attached(other)
	stricter := strings.ReplaceAll(names, "default: accept", "default: reject")
	done := make(chan []*inspect.Attachment)
	go func() { done <- replace(t, i, mustCompile(t, set("s", stricter))) }()
	c := <-changes
	if !slices.Equal(c.Attachments, []*inspect.Attachment{agent}) {
		t.Fatalf("%v", c.Attachments)
	}
	if v := i.Inspect(datagram(agent, 1, 80)); v.Action != inspect.Accept {
		t.Errorf("%+v", v)
	}
	if n := i.NeedsOf(agent); n.CopyRange != wholePackets {
		t.Errorf("%+v", n)
	}
	i.Attached(late)
	c.Apply()
	if v := i.Inspect(datagram(agent, 1, 80)); v.Action != inspect.Reject {
		t.Errorf("%+v", v)
	}
	if c := <-changes; c.Apply != nil || !slices.Equal(c.Attachments, []*inspect.Attachment{late}) {
		t.Errorf("%v", c.Attachments)
	}
	if changed := <-done; len(changed) != 2 {
		t.Errorf("%v", changed)
	}
	go func() { done <- replace(t, i, mustCompile(t, set("s", stricter))) }()
	if c = <-changes; c.Attachments == nil || len(c.Attachments) != 0 {
		t.Errorf("%v", c.Attachments)
	}
	c.Apply()
	<-done
}

func TestReplaceEnds(t *testing.T) {
	i := New(Options{})
	i.AttachmentChanges()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.Replace(ctx, nil); err == nil {
		t.Error("it does not end")
	}
	if n := i.NeedsOf(&inspect.Attachment{}); n.CopyRange != headersOnly {
		t.Errorf("%+v", n)
	}
}

// What is counted while other rules are prepared is not lost.
func TestCountsDuringReplace(t *testing.T) {
	i := New(Options{Rules: mustCompile(t, set("s", ports))})
	a := &inspect.Attachment{ContainerID: "c", Ifname: "eth0", PodNamespace: "agents", PodName: "a"}
	i.Attached(a)
	count := func() (n uint64) {
		for _, h := range i.Stats().Decisions {
			n += h.Count
		}
		return n
	}
	changes := i.AttachmentChanges()
	done := make(chan error)
	next := mustCompile(t, set("s", ports+"\n"))
	go func() {
		_, err := i.Replace(t.Context(), next)
		done <- err
	}()
	c := <-changes
	for k := range uint16(5) {
		i.Inspect(datagram(a, 1000+k, 22))
	}
	before := count()
	c.Apply()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if after := count(); after < before {
		t.Errorf("counters went back from %d to %d", before, after)
	}
}
