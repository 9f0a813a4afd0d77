// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// begins is an inspector that remembers with which labels attachments begin.
type begins struct {
	inspect.AcceptAll

	mu     sync.Mutex
	labels map[string]map[string]string
}

func (b *begins) Attached(a *inspect.Attachment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.labels[a.ContainerID] = a.Labels
}

func (*begins) Detached(*inspect.Attachment) {}

// Labels that came after the attachment are those with which it begins after a restart and
// a hand-over. Others are not known.
func TestLabelsStay(t *testing.T) {
	for name, start := range map[string]func(*testing.T, inspect.Inspector) *daemon{
		"restored":    func(t *testing.T, i inspect.Inspector) *daemon { return start(t, i) },
		"handed over": startHeld,
	} {
		t.Run(name, func(t *testing.T) {
			seen := &begins{labels: make(map[string]map[string]string)}
			d := start(t, seen)
			one, two, other := nstest.New(t), nstest.New(t), nstest.New(t)
			a := d.attach("one", one, api.Ignore)
			d.attach("two", two, api.Ignore)
			d.attach("other", other, api.Ignore)
			labels := map[string]string{"app": "web"}
			d.SetLabels("one", labels)
			d.SetLabels("two", map[string]string{})
			d.SetLabels("none", labels)
			d.restart()
			want := map[string]map[string]string{"one": labels, "two": {}, "other": nil}
			if diff := cmp.Diff(want, seen.labels); diff != "" {
				t.Errorf("after the restart (-want +got):\n%s", diff)
			}
			got, err := d.Describe(t.Context(), a.Key)
			nstest.Must(t, err)
			if diff := cmp.Diff(labels, got.Labels); diff != "" {
				t.Errorf("described (-want +got):\n%s", diff)
			}
		})
	}
}
