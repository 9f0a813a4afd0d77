// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/nri"
	"github.com/nsqueue/nsqueue/daemon/internal/policy"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
	"github.com/nsqueue/nsqueue/internal/dirwatch"
)

// LabelsConfig is about the labels of pods, for rules that ask for them.
type LabelsConfig struct {
	// Source of labels: nri, none or auto. nri is the Node Resource Interface of the
	// container runtime; auto is nri once its socket is there. Without a source, rules
	// that ask for pod.labels are refused.
	Source string `json:"source"`
	// Socket is the path of the runtime's socket of NRI.
	Socket string `json:"socket"`
}

const labelsAuto = "auto"

func (c *LabelsConfig) validate() error {
	switch c.Source {
	case labelsAuto, api.LabelsNRI, api.LabelsNone:
	default:
		return fmt.Errorf("labels.source %q: want nri, none or auto", c.Source)
	}
	return absolute("labels.socket", c.Socket)
}

// maxLabelBytes is how many bytes the names and values of a pod's labels may have in all.
const maxLabelBytes = 64 << 10

// labelKeeper is what keeps the labels of attachments.
type labelKeeper interface {
	SetLabels(containerID string, labels map[string]string)
}

// labeler brings the labels of pods to rules and records.
type labeler struct {
	config *LabelsConfig
	log    *slog.Logger
	plugin *nri.Plugin
	life   context.Context // ends before it is waited for what was begun
	known  atomic.Bool     // there is a source, or was one

	keeping sync.RWMutex // is held where the keeper works
	keeper  labelKeeper  // nil while this daemon does not serve

	mu     sync.Mutex // guards what follows
	pods   map[string]map[string]string
	policy *policy.Policy
}

// newLabeler returns what knows from the beginning whether there is a source.
func newLabeler(ctx context.Context, c *Config, log *slog.Logger) *labeler {
	l := &labeler{
		config: &c.Labels, log: log, pods: make(map[string]map[string]string), life: ctx,
	}
	l.plugin = nri.New(c.Labels.Socket, l, log)
	l.known.Store(c.knowsLabels())
	return l
}

// knowsLabels reports whether rules, if there are any, have a source of labels from the
// beginning.
func (c *Config) knowsLabels() bool {
	return c.Rules.On() && (c.Labels.Source == api.LabelsNRI ||
		c.Labels.Source == labelsAuto && (isSocket(c.Labels.Socket) || hasLabels(c.StateDir)))
}

func isSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Type() == os.ModeSocket
}

// hasLabels reports whether an earlier daemon has recorded labels: its source may be
// restarting at this moment.
func hasLabels(stateDir string) bool {
	found, err := state.HasLabels(stateDir)
	return err == nil && found
}

// Known reports whether labels come to be known.
func (l *labeler) Known() bool { return l.known.Load() }

// run follows the runtime for rules until ctx ends.
func (l *labeler) run(ctx context.Context, p *policy.Policy) {
	l.mu.Lock()
	l.policy = p
	l.mu.Unlock()
	if l.config.Source == api.LabelsNone {
		return
	}
	if !l.Known() && !l.awaitSource(ctx, p) {
		return
	}
	l.plugin.Run(ctx)
}

// awaitSource waits for the runtime's socket, and has the rules read again, which may have
// been refused without.
func (l *labeler) awaitSource(ctx context.Context, p *policy.Policy) bool {
	w, err := dirwatch.New(ctx, unix.IN_CREATE|unix.IN_MOVED_TO)
	if err != nil {
		l.log.Debug("cannot watch the socket of NRI", slog.Any("error", err))
	}
	defer w.Close()
	for ctx.Err() == nil {
		_ = w.Add(filepath.Dir(l.config.Socket)) // a missing one is looked for by the clock
		if isSocket(l.config.Socket) {
			l.known.Store(true)
			if err := p.Reload(); err != nil && ctx.Err() == nil {
				l.log.Error("cannot reload rules", slog.Any("error", err))
			}
			return true
		}
		w.Wait(ctx, time.Second, func(dirwatch.Event) bool { return true })
	}
	return false
}

// serve has labels recorded until ctx ends, and those that came until now: rules have had
// them.
func (l *labeler) serve(ctx context.Context, k labelKeeper) {
	l.keepBy(k)
	defer l.keepBy(nil)
	l.mu.Lock()
	pods := maps.Clone(l.pods)
	l.mu.Unlock()
	for id, labels := range pods {
		l.keep(id, labels)
	}
	<-ctx.Done()
}

func (l *labeler) keepBy(k labelKeeper) {
	l.keeping.Lock()
	defer l.keeping.Unlock()
	l.keeper = k
}

func (l *labeler) keep(id string, labels map[string]string) {
	l.keeping.RLock()
	defer l.keeping.RUnlock()
	if l.keeper != nil {
		l.keeper.SetLabels(id, labels)
	}
}

// Of returns the labels of a pod, nil if they have not come.
func (l *labeler) Of(containerID string) map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pods[containerID]
}

// Run brings the labels of a pod that starts where they belong.
func (l *labeler) Run(pod nri.Pod) {
	labels, err := boundLabels(&pod)
	if err != nil {
		l.refuse(err)
		return
	}
	l.mu.Lock()
	l.pods[pod.ID] = labels
	l.mu.Unlock()
	l.set(pod.ID, labels)
}

// Synchronize does so with all pods there are.
func (l *labeler) Synchronize(pods []nri.Pod) {
	all := make(map[string]map[string]string, len(pods))
	for i := range pods {
		labels, err := boundLabels(&pods[i])
		if err != nil {
			l.refuse(err)
			continue
		}
		all[pods[i].ID] = labels
	}
	l.mu.Lock()
	before, p := l.pods, l.policy
	l.pods = maps.Clone(all)
	l.mu.Unlock()
	for id := range before {
		if all[id] == nil {
			p.ForgetLabels(id)
		}
	}
	for id, labels := range all {
		l.set(id, labels)
	}
}

// Removed forgets a pod.
func (l *labeler) Removed(id string) {
	l.mu.Lock()
	delete(l.pods, id)
	p := l.policy
	l.mu.Unlock()
	p.ForgetLabels(id)
}

// set records labels, and has the rules in force that they ask for.
func (l *labeler) set(id string, labels map[string]string) {
	l.keep(id, labels)
	l.mu.Lock()
	p := l.policy
	l.mu.Unlock()
	if err := p.SetLabels(l.life, id, labels); err != nil && l.life.Err() == nil {
		l.log.Error("cannot put the rules of a pod's labels in force",
			slog.String("containerID", id), slog.Any("error", err))
	}
}

// boundLabels returns the labels of a pod, which are never nil. Those of a pod that has too
// many are not cut: what its author adds must not hide what others have said of it.
func boundLabels(pod *nri.Pod) (map[string]string, error) {
	size := 0
	for name, value := range pod.Labels {
		size += len(name) + len(value)
	}
	if size > maxLabelBytes {
		return nil, fmt.Errorf("pod %.253q of namespace %.63q has %d bytes of labels, more than "+
			"%d: it is judged as one without labels", pod.Name, pod.Namespace, size, maxLabelBytes)
	}
	return pod.Labels, nil
}

func (l *labeler) refuse(err error) {
	l.mu.Lock()
	p := l.policy
	l.mu.Unlock()
	p.Warn(err.Error())
}

// state returns what a status tells.
func (l *labeler) state(list []api.Attachment) *api.LabelsState {
	if !l.Known() {
		return &api.LabelsState{Source: api.LabelsNone}
	}
	s := l.plugin.State()
	answer := &api.LabelsState{
		Source: api.LabelsNRI, Socket: l.config.Socket, Connected: s.Connected, Since: &s.Since,
		Runtime: s.Runtime, Version: s.Version, Problem: s.Problem,
		Connections: s.Connections, Pods: s.Pods, Late: s.Late,
	}
	for i := range list {
		if list[i].Labels == nil {
			answer.Unknown++
		}
	}
	return answer
}
