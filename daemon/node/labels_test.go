// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/nri"
	"github.com/nsqueue/nsqueue/daemon/internal/policy"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
	"github.com/nsqueue/nsqueue/test/nstest"
)

const guestRules = `apiVersion: nsqueue.io/v1alpha1
kind: RuleSet
metadata: {name: guests}
spec:
  pods: {when: 'pod.labels["team"] == "guests"'}
  default: reject
`

// labelConfig has rules that ask for labels.
func labelConfig(t *testing.T) *Config {
	t.Helper()
	dir := t.TempDir()
	c := DefaultConfig()
	c.StateDir, c.Rules.Directory = dir, filepath.Join(dir, "rules.d")
	c.Labels.Socket = filepath.Join(dir, "nri.sock")
	nstest.Must(t, os.Mkdir(c.Rules.Directory, 0o755))
	nstest.Must(t, os.WriteFile(filepath.Join(c.Rules.Directory, "a.yaml"), []byte(guestRules), 0o600))
	return &c
}

// labeled returns a labeler and its policy.
func labeled(t *testing.T, c *Config) (*labeler, *policy.Policy) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	l := newLabeler(t.Context(), c, log)
	p, err := newPolicy(t.Context(), c, inspect.AcceptAll{}, nil, l.Known, log)
	nstest.Must(t, err)
	t.Cleanup(func() { nstest.Must(t, endPolicy(p)) })
	return l, p
}

func TestLabelsConfig(t *testing.T) {
	for text, want := range map[string]string{
		"source: nri":                          "",
		"source: none":                         "",
		"socket: /run/nri.sock":                "",
		"source: cni":                          `labels.source "cni": want nri, none or auto`,
		"socket: nri.sock":                     `labels.socket "nri.sock"`,
		"source: auto, sockets: /run/nri.sock": "sockets",
	} {
		_, err := parseConfig([]byte(header + "labels: {" + text + "}\n"))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// Rules may ask for labels where there is a source, or was one before a restart.
func TestLabelSources(t *testing.T) {
	record := func(t *testing.T, c *Config) {
		store, err := state.Open(c.StateDir)
		nstest.Must(t, err)
		nstest.Must(t, store.Save(state.Record{
			Key: api.Key{ContainerID: "a", Ifname: "eth0"}, FailurePolicy: api.Fail,
			Labels: map[string]string{},
		}))
		nstest.Must(t, store.Close())
	}
	listen := func(t *testing.T, c *Config) {
		l, err := net.Listen("unix", c.Labels.Socket)
		nstest.Must(t, err)
		t.Cleanup(func() { _ = l.Close() })
	}
	none := func(*testing.T, *Config) {}
	for name, c := range map[string]struct {
		source string
		with   func(*testing.T, *Config)
		known  bool
	}{
		"auto":                      {labelsAuto, none, false},
		"auto with a socket":        {labelsAuto, listen, true},
		"auto, labels are recorded": {labelsAuto, record, true},
		"nri":                       {api.LabelsNRI, none, true},
		"none":                      {api.LabelsNone, listen, false},
	} {
		t.Run(name, func(t *testing.T) {
			config := labelConfig(t)
			config.Labels.Source = c.source
			c.with(t, config)
			l, p := labeled(t, config)
			s := p.State()
			if l.Known() != c.known || (s.Loaded != nil) != c.known {
				t.Errorf("known %v, state %+v", l.Known(), s)
			}
			if !c.known && !strings.Contains(s.Problem, "a.yaml:5:") {
				t.Errorf("problem %q", s.Problem)
			}
			if got := l.state(nil); (got.Source == api.LabelsNRI) != c.known {
				t.Errorf("%+v", got)
			}
		})
	}
}

// Where the runtime starts after nsqueued, rules that were refused are read again.
func TestSourceAppears(t *testing.T) {
	c := labelConfig(t)
	l, p := labeled(t, c)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { l.run(ctx, p); close(ended) }()
	listener, err := net.Listen("unix", c.Labels.Socket)
	nstest.Must(t, err)
	defer listener.Close()
	nstest.Eventually(t, time.Minute, "rules in force", func() bool { return p.State().Loaded != nil })
	conn, err := listener.Accept()
	nstest.Must(t, err)
	defer conn.Close()
	end()
	<-ended
}

// records remembers what is to be recorded.
type records struct {
	mu     sync.Mutex
	labels map[string]map[string]string
}

func (r *records) SetLabels(id string, labels map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.labels[id] = labels
}

func labeledPod(id, team string) nri.Pod {
	return nri.Pod{ID: id, Name: id, Namespace: "n", Labels: map[string]string{"team": team}}
}

// What the runtime tells is recorded while the daemon serves, and known to rules at once.
func TestLabelsArrive(t *testing.T) {
	c := labelConfig(t)
	c.Labels.Source = api.LabelsNRI
	l, p := labeled(t, c)
	l.policy = p
	inspector := p.Inspector()
	a := &inspect.Attachment{ContainerID: "a", Ifname: "eth0"}
	inspector.Attached(a)
	before := inspector.DigestOf(a)
	l.Synchronize([]nri.Pod{labeledPod("a", "guests"), labeledPod("b", "guests")}) // in standby
	if inspector.DigestOf(a) == before || l.Of("b")["team"] != "guests" {
		t.Errorf("digest %s, labels %v", inspector.DigestOf(a), l.pods)
	}
	kept := &records{labels: make(map[string]map[string]string)}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { l.serve(ctx, kept); close(ended) }()
	nstest.Eventually(t, time.Minute, "two records", func() bool {
		kept.mu.Lock()
		defer kept.mu.Unlock()
		return len(kept.labels) == 2
	})
	l.Run(labeledPod("c", "x"))
	l.Removed("b")
	l.Synchronize([]nri.Pod{labeledPod("c", "y")})
	if l.Of("a") != nil || l.Of("b") != nil || l.Of("c")["team"] != "y" ||
		!maps.Equal(kept.labels["c"], l.Of("c")) {
		t.Errorf("%v, recorded %v", l.pods, kept.labels)
	}
	end()
	<-ended
	l.Run(labeledPod("d", "x")) // the next daemon records by now
	if kept.labels["d"] != nil {
		t.Error("recorded after the daemon has served")
	}
}

// Labels of a pod that has too many are not known: no others can hide one of them.
func TestTooManyLabels(t *testing.T) {
	c := labelConfig(t)
	c.Labels.Source = api.LabelsNRI
	l, p := labeled(t, c)
	l.policy = p
	told := &rulesLog{}
	p.ReportTo(told)
	pod := labeledPod("a", "guests")
	for i := range 2000 {
		pod.Labels[fmt.Sprintf("a.example/%04d", i)] = strings.Repeat("v", 63)
	}
	l.Run(pod)
	l.Synchronize([]nri.Pod{pod})
	if l.Of("a") != nil || len(told.lines) != 2 || !strings.Contains(told.lines[0], "bytes of labels") {
		t.Errorf("%d labels, told %q", len(l.Of("a")), told.lines)
	}
}

type rulesLog struct{ lines []string }

func (l *rulesLog) ReportRules(_ slog.Level, message string) { l.lines = append(l.lines, message) }

func (l *rulesLog) ReportRefusal(api.Event) {}
