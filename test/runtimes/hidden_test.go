// SPDX-License-Identifier: Apache-2.0

//go:build runtimes

package runtimes

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
	"github.com/nsqueue/nsqueue/test/runtimes/cri"
	"github.com/nsqueue/nsqueue/test/runtimes/manifest"
)

// hidden is a container that hides something of the node from its nsqueued.
type hidden struct {
	// name is that of the pod, of a runtime handler and of a directory.
	name   string
	change func(p *manifest.Pod)
	// doctor and check are what the two say of it.
	doctor, check []string
}

// hiddens are what a container may hide, and last all of it. The first one hides
// nothing.
func hiddens() []hidden {
	ownPIDs := func(p *manifest.Pod) { p.Spec.HostPID = false }
	untraced := func(p *manifest.Pod) { p.Deny("SYS_PTRACE") }
	all := func(p *manifest.Pod) { p.Unpropagate(); ownPIDs(p); untraced(p) }
	return []hidden{
		{"shipped", func(*manifest.Pod) {}, nil, nil},
		{
			"unpropagated", (*manifest.Pod).Unpropagate,
			[]string{"/run/netns: mount propagation is missing", "mountPropagation: HostToContainer"},
			[]string{"/run/netns: mount propagation is missing"},
		},
		{"own-pids", ownPIDs, nil, []string{"Set hostPID: true"}},
		{"untraced", untraced, nil, []string{"CAP_SYS_PTRACE is missing"}},
		{"blind", all, []string{
			"propagation HostToContainer", "hostPID: true", "without CAP_SYS_PTRACE",
		}, []string{"Set hostPID: true", "CAP_SYS_PTRACE is missing"}},
	}
}

// dir is where the container has its state and its socket: all of them are there at
// the same time, beside the node's own daemon.
func (h hidden) dir() string { return "/run/nsqueue-" + h.name }

// fooling is how long nothing may happen: three rounds in which nsqueued looks for pods
// that are gone, and the time for which it waits in doubt.
const fooling = 90 * time.Second

// watched is a container that hides something, with pods that are not to be forgotten.
type watched struct {
	*contained
	hidden

	// next is the pod that is to follow.
	next  *manifest.Pod
	pods  []*cri.Pod
	since time.Time
}

// testHidingContainers starts them. They live beside the other tests, of which this
// takes no time then.
func testHidingContainers(t *testing.T, c *rig) {
	if missing(t, unix.CAP_SYS_RESOURCE) {
		t.Log("@@ this machine's root has no CAP_SYS_RESOURCE: the containers go without")
	}
	for _, n := range c.nodes {
		t.Run(n.version, func(t *testing.T) {
			t.Parallel()
			for _, h := range hiddens() {
				n.watched = append(n.watched, n.watch(t, h, c))
			}
		})
	}
}

// manifest is that of a pod that hides. It waits for its successor as long as a test does.
func (h hidden) manifest(t *testing.T, c *rig, name string) *manifest.Pod {
	t.Helper()
	p := c.loadPod(t)
	h.change(p)
	p.Metadata.Name = name
	p.Volume("run").HostPath.Path = h.dir()
	p.Spec.Containers = p.Spec.Containers[:1]
	args := p.Spec.Containers[0].Args
	at := slices.Index(args, "--linger=20s")
	if at < 0 {
		t.Fatalf("%s starts nsqueued with %q", shippedPod, args)
	}
	args[at] = "--linger=" + patience.String()
	return p
}

// watch starts a container and the pods that it inspects.
func (n *node) watch(t *testing.T, h hidden, c *rig) *watched {
	t.Helper()
	w := &watched{
		contained: n.run(t, h.manifest(t, c, h.name)), hidden: h, next: h.manifest(t, c, h.name+"-next"),
	}
	for _, name := range []string{"server", "client"} {
		pod, err := n.client.Run(t.Context(),
			spec(cri.Spec{Name: h.name + "-" + name, Handler: h.name}), 0)
		nstest.Must(t, err)
		w.pods = append(w.pods, pod)
	}
	w.inspects(t, w.pods[1], w.pods[0])
	w.since = time.Now()
	return w
}

// testNotFooled wants all of the pods to be inspected that each of the containers had,
// also after another container has taken over, and that each says what it cannot see.
func testNotFooled(t *testing.T, c *rig) {
	for _, n := range c.nodes {
		for _, w := range n.watched {
			t.Run(n.version+" "+w.name, func(t *testing.T) {
				t.Parallel()
				w.notFooled(t)
			})
		}
	}
}

func (w *watched) notFooled(t *testing.T) {
	defer func() { w.contained.remove(t) }()
	nstest.Poll(fooling, func() bool { return time.Since(w.since) >= fooling })
	w.inspects(t, w.pods[1], w.pods[0])
	events, err := w.daemon.Events(lasting(t))
	nstest.Must(t, err)
	for _, e := range events {
		if e.Kind == api.EventLostDetach || e.Kind == api.EventDetach {
			t.Errorf("a living pod was detached: %+v", e)
		}
	}
	w.checkDoubts(t)
	w.says(t, w.doctor, nsqueuectl, "doctor")
	w.says(t, w.check, "/usr/local/bin/nsqueued", "check")
	w.follow(t)
	w.inspects(t, w.pods[1], w.pods[0])
	for _, p := range w.pods {
		remove(t, p)
	}
	s, err := w.daemon.Status(lasting(t))
	nstest.Must(t, err)
	if s.Attachments != 0 || s.Spooled != 0 {
		t.Errorf("is left: %+v", s)
	}
}

// follow tells the container to end, and starts the next one. No packet is lost, and the
// first one ends by itself when the other one has taken over.
func (w *watched) follow(t *testing.T) {
	t.Helper()
	var working sync.WaitGroup
	working.Go(func() { streamThrough(t, w.pods[1], w.pods[0]) })
	before := w.pod
	working.Go(func() {
		code, err := before.EndContainer(lasting(t), 2*patience)
		if err != nil || code != 0 {
			t.Errorf("%s's %s ends with code %d, %v", w.Name, before.Name, code, err)
		}
	})
	w.awaitHandover(t, "awaits its successor", func(h *api.Handover) bool { return h.Ending })
	w.contained = w.run(t, w.next)
	w.awaitHandover(t, "has taken over", func(h *api.Handover) bool {
		return h.Role == api.RoleActive && h.TakeOvers == 1
	})
	exec(t, w.pods[1], "touch", "/tmp/stop")
	working.Wait()
	remove(t, before)
}

// awaitHandover waits until the supervisor of the daemon that answers says so.
func (w *watched) awaitHandover(t *testing.T, what string, is func(*api.Handover) bool) {
	t.Helper()
	nstest.Eventually(t, patience, w.name+" "+what, func() bool {
		s, err := w.daemon.Status(lasting(t))
		return err == nil && s.Supervisor.Handover != nil && is(s.Supervisor.Handover)
	})
}

// checkDoubts wants status to name what hides pods where nsqueued cannot tell whether
// they live, and to be sure where one of the proofs is seen.
func (w *watched) checkDoubts(t *testing.T) {
	t.Helper()
	var s api.Status
	nstest.Must(t, json.Unmarshal([]byte(w.exec(t, "status", "-o", "json")), &s))
	switch {
	case w.name != "blind" && s.Doubts != nil:
		t.Errorf("in doubt: %+v", s.Doubts)
	case w.name == "blind" && (s.Doubts == nil || s.Doubts.Attachments != len(w.pods) ||
		!strings.Contains(s.Doubts.Reason, "hostPID")):
		t.Errorf("doubts: %+v", s.Doubts)
	}
}

// says wants a program, run in the container, to say what hides the pods.
func (w *watched) says(t *testing.T, texts []string, argv ...string) {
	t.Helper()
	out, err := w.pod.Exec(t.Context(), argv...)
	line := strings.Join(strings.Fields(out), " ")
	for _, want := range texts {
		if !strings.Contains(line, want) {
			t.Errorf("%q does not say %q: %v\n%s", argv, want, err, out)
		}
	}
}
