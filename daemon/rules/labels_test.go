// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

const labelled = `
  pods: {when: 'pod.labels["team"] == "guests"'}
  default: accept
  rules: [{name: web, when: server.port == 80, action: reject}]`

func withLabels(t testing.TB, text string) *Rules {
	t.Helper()
	loader := Loader{Labels: true}
	r, err := loader.Compile(nil, File{Name: "s.yaml", Data: []byte(set("s", text))})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// guest is an attachment of a sandbox.
func guest(id string) *inspect.Attachment {
	return &inspect.Attachment{ContainerID: id, Ifname: "eth0", PodNamespace: "agents", PodName: id}
}

func guests() map[string]string { return map[string]string{"team": "guests"} }

func wantAction(t *testing.T, i *Inspector, a *inspect.Attachment, want inspect.Action) {
	t.Helper()
	if v := i.Inspect(datagram(a, 1, 80)); v.Action != want {
		t.Errorf("%s: %v, want %v", a.ContainerID, v.Action, want)
	}
}

// Without a source of labels, nothing may ask for them.
func TestLabelsNeedASource(t *testing.T) {
	_, err := Compile(File{Name: "s.yaml", Data: []byte(set("s", labelled))})
	if err == nil || !strings.Contains(err.Error(), "s.yaml:6:") ||
		!strings.Contains(err.Error(), "pod.labels") {
		t.Error(err)
	}
}

// Labels count whenever they come: before the attachment, with it, or later. Until then a
// pod has none.
func TestLabels(t *testing.T) {
	i := New(Options{Rules: withLabels(t, labelled)})
	early, late, restored, other := guest("early"), guest("late"), guest("restored"), guest("other")
	restored.Labels = guests()
	tell := func(id string, labels map[string]string, want ...*inspect.Attachment) {
		t.Helper()
		got, err := i.SetLabels(t.Context(), id, labels)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", id, got, err, want)
		}
	}
	tell("early", guests())
	for _, a := range []*inspect.Attachment{early, late, restored, other} {
		i.Attached(a)
	}
	wantAction(t, i, early, inspect.Reject)
	wantAction(t, i, restored, inspect.Reject)
	wantAction(t, i, late, inspect.Accept)
	tell("late", guests(), late)
	wantAction(t, i, late, inspect.Reject)
	wantAction(t, i, other, inspect.Accept)
	tell("late", guests())                                  // the same again
	tell("late", map[string]string{"team": "others"}, late) // what was recorded was wrong
	wantAction(t, i, late, inspect.Accept)
	// Other rules are for the labels of now.
	if _, err := i.Replace(t.Context(),
		withLabels(t, strings.ReplaceAll(labelled, "guests", "others"))); err != nil {
		t.Fatal(err)
	}
	wantAction(t, i, late, inspect.Reject)
	wantAction(t, i, early, inspect.Accept)
	i.ForgetLabels("late")
	wantAction(t, i, late, inspect.Reject)
	i.Detached(late)
	i.Attached(late)
	wantAction(t, i, late, inspect.Accept)
}

// A pod gets no packet by the rules of its labels of which too little was copied, and the
// change is carried out before SetLabels returns.
func TestLabelsChangeNeeds(t *testing.T) {
	i := New(Options{Rules: withLabels(t, strings.ReplaceAll(labelled, "server.port == 80",
		`tls.sni == "a.example"`))})
	changes := i.AttachmentChanges()
	a := guest("a")
	i.Attached(a)
	before := i.DigestOf(a)
	if n := i.NeedsOf(a); n.CopyRange != headersOnly {
		t.Errorf("%+v", n)
	}
	done := make(chan error)
	go func() {
		_, err := i.SetLabels(t.Context(), "a", guests())
		done <- err
	}()
	change := <-changes
	if !slices.Equal(change.Attachments, []*inspect.Attachment{a}) {
		t.Errorf("%+v", change)
	}
	if n := i.NeedsOf(a); n.CopyRange != wholePackets || i.DigestOf(a) != before {
		t.Errorf("before it is applied: %+v, digest %s", n, i.DigestOf(a))
	}
	change.Apply()
	select {
	case err := <-done:
		t.Fatalf("it has returned before the change was carried out: %v", err)
	case barrier := <-changes:
		if barrier.Attachments == nil || len(barrier.Attachments) > 0 {
			t.Errorf("%+v", barrier)
		}
		barrier.Apply()
	}
	if err := <-done; err != nil || i.DigestOf(a) == before {
		t.Errorf("%v, digest %s", err, i.DigestOf(a))
	}
}

// Where the daemon ends meanwhile, nothing waits.
func TestLabelsEnd(t *testing.T) {
	i := New(Options{Rules: withLabels(t, labelled)})
	_ = i.AttachmentChanges()
	i.Attached(guest("a"))
	ctx, end := context.WithCancel(t.Context())
	end()
	if _, err := i.SetLabels(ctx, "a", guests()); err == nil {
		t.Error("no error")
	}
}
