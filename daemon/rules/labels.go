// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// labels are those of the pods of one sandbox. They are not changed.
type labels struct{ of map[string]string }

// SetLabels tells the labels of a pod by the container ID of its sandbox, whether it is
// attached already or will be. When it returns without an error, the rules that they ask
// for are in force, and flows that others have settled come again. Only attachments that
// other rules concern by then are looked at again: it returns them.
func (i *Inspector) SetLabels(
	ctx context.Context, containerID string, of map[string]string,
) ([]*inspect.Attachment, error) {
	release, err := i.takeTurn(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	l := &labels{of}
	pods := i.keepLabels(containerID, l)
	changed := []*inspect.Attachment{}
	for _, p := range pods {
		if p.prepare(l) {
			changed = append(changed, p.attachment)
		}
	}
	apply := func() {
		for _, p := range pods {
			p.relabel(l)
		}
	}
	if len(changed) == 0 || !i.followed.Load() {
		apply()
		return changed, nil
	}
	if err := i.carryOut(ctx, changed, apply); err != nil {
		return nil, err
	}
	// Changes are carried out one after the other: this one is when the next is applied.
	return changed, i.carryOut(ctx, []*inspect.Attachment{}, func() {})
}

// ForgetLabels tells that there is no such pod any more. Those of its attachments that
// are there keep the labels.
func (i *Inspector) ForgetLabels(containerID string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.labels, containerID)
}

// keepLabels keeps the labels for attachments to come, and returns those that are there.
func (i *Inspector) keepLabels(containerID string, l *labels) []*pod {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.labels[containerID] = l
	var pods []*pod
	for a, p := range i.pods {
		if a.ContainerID == containerID {
			pods = append(pods, p)
		}
	}
	return pods
}

// labelsOf returns what is known of the labels of an attachment's pod.
func (i *Inspector) labelsOf(a *inspect.Attachment) *labels {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.labels[a.ContainerID]
}

// factsOf returns what rules can ask about a pod that is to be attached.
func factsOf(a *inspect.Attachment, l *labels) *Pod {
	facts := PodOf(a)
	if l != nil {
		facts.Labels = l.of
	}
	return facts
}

// facts returns what rules can ask about the pod of an attachment, and what they can soon,
// nil if that is the same.
func (i *Inspector) facts(a *inspect.Attachment) (now, soon *Pod) {
	p := i.pod(a)
	if p == nil {
		return factsOf(a, i.labelsOf(a)), nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.facts, p.coming
}

// prepare has the needs of the pod's rules with these labels asked for, and reports
// whether they are others than those of now.
func (p *pod) prepare(l *labels) bool {
	coming, list := p.with(l)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.coming = coming
	return digestOf(list) != digestOf(p.list)
}

// relabel gives the pod labels.
func (p *pod) relabel(l *labels) {
	facts, list := p.with(l)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.facts, p.coming = facts, nil
	if p.closed {
		return
	}
	p.judge.SetPod(facts)
	p.useLocked(list)
}

// with returns what the pod is with labels, and the rules that concern it then.
func (p *pod) with(l *labels) (*Pod, *List) {
	p.mu.Lock()
	loaded := p.loaded
	p.mu.Unlock()
	facts := factsOf(p.attachment, l)
	return facts, loaded.of(facts)
}
