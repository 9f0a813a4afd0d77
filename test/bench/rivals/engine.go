// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules"
	"github.com/nsqueue/nsqueue/internal/pcap"
)

// engine is nsqueue's, in a process of its own, so that its processor time is told as that
// of others is.
type engine struct{ program, rules string }

func newEngine() (*engine, error) {
	program, err := os.Executable()
	return &engine{program: program}, err
}

func version() string { return api.Version() }

func (e *engine) name() string { return "nsqueue" }

func (e *engine) prepare(dir string, number int) error {
	e.rules = filepath.Join(dir, "rules.yaml")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(e.rules, []byte(ownRules(number)), 0o600)
}

func (e *engine) read(ctx context.Context, c capture) (time.Duration, map[string]int, error) {
	cmd := exec.CommandContext(ctx, e.program, engineCommand, e.rules, c.path)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, nil, err
	}
	counts := make(map[string]int)
	return spent(cmd), counts, json.Unmarshal(out, &counts)
}

// tally counts what rules refuse.
type tally map[string]int

// Note counts what was rejected.
func (t tally) Note(_ *inspect.Attachment, _ *rules.Pod, n *rules.Note) {
	if n.Kind == rules.Decided && n.Verdict == rules.Rejected {
		_, rule := rules.NamesOf(n.Set, n.Rule, n.Midstream)
		t[rule]++
	}
}

// judge is the engine at work.
type judge struct {
	inspector *rules.Inspector
	pod       *inspect.Attachment
	start     time.Time
	now, tick time.Duration
	packets   []*inspect.Packet
	verdicts  []inspect.Verdict
}

// batch is how many packets nsqueued reads at once, and tick how often it looks for flows
// that wait for too long.
const (
	batch = 64
	tick  = 50 * time.Millisecond
)

// memory is as much as there is need of: the limits that protect pods from each other are
// not what is compared.
const memory = 1 << 30

// runEngine judges a capture by rules, and prints how often each has refused.
func runEngine(ruleFile, captureFile string) error {
	loaded, err := rules.Load(ruleFile)
	if err != nil {
		return err
	}
	file, err := os.Open(captureFile)
	if err != nil {
		return err
	}
	defer file.Close()
	reader, err := pcap.NewReader(bufio.NewReaderSize(file, 1<<20))
	if err != nil {
		return err
	}
	counts := make(tally)
	j := newJudge(loaded, counts)
	if err := j.judgeAll(reader); err != nil {
		return fmt.Errorf("%s: %w", captureFile, err)
	}
	return json.NewEncoder(os.Stdout).Encode(counts)
}

func newJudge(loaded *rules.Rules, sink rules.Sink) *judge {
	j := &judge{
		pod:      &inspect.Attachment{PodNamespace: "bench", PodName: "pod"},
		verdicts: make([]inspect.Verdict, batch),
	}
	for range batch {
		j.packets = append(j.packets, &inspect.Packet{UID: -1, Attachment: j.pod})
	}
	j.inspector = rules.New(rules.Options{
		Rules: loaded, Sink: sink, Now: func() time.Duration { return j.now },
		NodeMemory: memory, PodMemory: memory,
	})
	j.inspector.Attached(j.pod)
	return j
}

// judgeAll takes batches, as nsqueued does.
func (j *judge) judgeAll(reader *pcap.Reader) error {
	n := 0
	for {
		p, err := reader.Next()
		if n == batch || err != nil && n > 0 {
			j.inspector.InspectBatch(j.packets[:n], j.verdicts[:n])
			n = 0
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		j.at(p.Time)
		j.take(n, &p)
		n++
	}
}

// at goes on to the moment of a packet.
func (j *judge) at(t time.Time) {
	if j.start.IsZero() {
		j.start = t
	}
	j.now = max(j.now, t.Sub(j.start))
	if j.now-j.tick >= tick {
		j.tick = j.now
		j.inspector.Tick()
	}
}

// take makes a packet the n-th of the batch. The reader uses its memory again.
func (j *judge) take(n int, p *pcap.Packet) {
	to := j.packets[n]
	direction := inspect.In
	if p.IP[12] == podNetwork { // the first byte of the source
		direction = inspect.Out
	}
	payload := append(to.Payload[:0], p.IP...)
	*to = inspect.Packet{
		Direction: direction, Payload: payload, Length: p.Length, UID: -1, Attachment: j.pod,
	}
	clear(j.verdicts[n : n+1])
}
