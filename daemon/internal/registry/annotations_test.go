// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// reads is an inspector that remembers the annotations of the latest packet.
type reads struct {
	mu     sync.Mutex
	latest map[string]string
}

func (r *reads) Inspect(p *inspect.Packet) inspect.Verdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latest = p.Attachment.Annotations
	return inspect.Verdict{Action: inspect.Accept}
}

func (r *reads) want(t *testing.T, want map[string]string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if diff := cmp.Diff(want, r.latest); diff != "" {
		t.Errorf("the inspector saw (-want +got):\n%s", diff)
	}
}

// Inspectors and operators see what was passed on with the first call, whatever
// comes after it.
func TestAnnotationsStay(t *testing.T) {
	for name, start := range map[string]func(*testing.T, inspect.Inspector) *daemon{
		"restored":    func(t *testing.T, i inspect.Inspector) *daemon { return start(t, i) },
		"handed over": startHeld,
	} {
		t.Run(name, func(t *testing.T) {
			inspector := &reads{}
			d := start(t, inspector)
			pod, peer := nstest.Pair(t)
			want := map[string]string{"nsqueue.io/profile": "<s>\x1b"}
			req := request("one", pod, api.Ignore)
			req.Annotations = want
			a, err := d.Attach(t.Context(), req, nil)
			nstest.Must(t, err)
			d.attach("one", pod, api.Ignore) // by an older plugin
			nstest.Must(t, d.Check(t.Context(), a.Key))
			for range 2 {
				nstest.Must(t, peerAnswers(t, peer, pod))
				inspector.want(t, want)
				got, err := d.Describe(t.Context(), a.Key)
				nstest.Must(t, err)
				if diff := cmp.Diff(want, got.Annotations); diff != "" {
					t.Errorf("described (-want +got):\n%s", diff)
				}
				d.restart()
			}
		})
	}
}

// What is beyond the bounds is left out, and is an event.
func TestAnnotationsAreBounded(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	req := request("one", nstest.New(t), api.Ignore)
	req.Annotations = map[string]string{"a": strings.Repeat("v", api.MaxAnnotationBytes), "b": "v"}
	a, err := d.Attach(t.Context(), req, nil)
	nstest.Must(t, err)
	if !cmp.Equal(a.Annotations, map[string]string{"b": "v"}) || len(a.Warnings) != 1 {
		t.Errorf("%+v", a)
	}
	d.wantEvent(api.EventWarning, `annotation "a" not passed on`)
}

// A record from before there were annotations is restored without any.
func TestRecordWithoutAnnotations(t *testing.T) {
	inspector := &reads{latest: map[string]string{"a": "b"}}
	d := start(t, inspector)
	pod, peer := nstest.Pair(t)
	a := d.attach("one", pod, api.Ignore)
	file := filepath.Join(d.dir, "attachments", "one@eth0.json")
	if b, err := os.ReadFile(file); err != nil || bytes.Contains(b, []byte("annotations")) {
		t.Errorf("%s, %v", b, err)
	}
	d.restart()
	nstest.Must(t, peerAnswers(t, peer, pod))
	inspector.want(t, nil)
	nstest.Must(t, d.Check(t.Context(), a.Key))
}
