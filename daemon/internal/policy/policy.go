// SPDX-License-Identifier: Apache-2.0

// Package policy owns the rules of a node while its daemon runs: the directory that they
// come from, the inspector that judges by them, and where events about them go.
package policy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// Config is what a Policy is made with.
type Config struct {
	// Directories have the files of rules. There is at least one.
	Directories []string
	Events      Events
	// Memory is how many bytes the undecided flows of all pods may take.
	Memory int
	// Resolvers are whose DNS answers tell names of addresses. Nil: everybody's are.
	Resolvers []netip.Addr
	// Labels reports whether the labels of pods come to be known; nil: they never do.
	Labels func() bool
	// Settled is how long flows stay settled. They are remembered for longer.
	Settled time.Duration
	// Inspector says why rules cannot use an inspector of this name. Nil: they can use
	// any.
	Inspector func(name string) error
	Log       *slog.Logger
}

// Policy is the rules of a node. Its methods are safe for concurrent use.
type Policy struct {
	config    Config
	life      context.Context // ends with the daemon
	inspector *rules.Inspector
	names     *names
	resolving resolving
	events    *events
	begin     time.Time
	readFile  func(path string) ([]byte, error)

	reloading sync.Mutex // one at a time
	mu        sync.Mutex // guards what follows
	reporter  Reporter
	rules     *rules.Rules
	loaded    time.Time
	errs      []api.RuleError
	seen      reading // of the files that were read last
	reloads   map[bool]uint64
}

// New reads the rules. Files that are wrong are no error: until they are mended, the
// failure policies decide about all packets. No reload goes on when ctx has ended.
func New(ctx context.Context, c Config) (*Policy, error) {
	for _, dir := range c.Directories {
		if err := checkDirectory(dir); err != nil {
			return nil, err
		}
	}
	p := &Policy{
		config: c, life: ctx, begin: time.Now(), names: newNames(),
		reporter: nobody{}, readFile: os.ReadFile,
		reloads: make(map[bool]uint64),
	}
	var err error
	if p.events, err = newEvents(&c.Events, c.Log); err != nil {
		return nil, err
	}
	loaded, seen, err := p.load(nil)
	p.inspector = rules.New(rules.Options{
		Rules: loaded, Required: true, Sink: p, NodeMemory: c.Memory, Resolvers: c.Resolvers,
		Idle: 2 * max(c.Settled, 5*time.Minute), Now: p.now,
	})
	if err != nil {
		p.refuse(errorsOf(err, c.Directories[0]), seen)
		return p, nil
	}
	p.accept(loaded, seen)
	return p, nil
}

// Reporter remembers for operators what happens.
type Reporter interface {
	// ReportRules tells of files of rules.
	ReportRules(level slog.Level, message string)
	// ReportRefusal tells what rules refused, or would have. Not each is told.
	ReportRefusal(event api.Event)
}

type nobody struct{}

func (nobody) ReportRules(slog.Level, string) {}
func (nobody) ReportRefusal(api.Event)        {}

// ReportTo has operators told of reloads, of files that were refused so far, and of
// refusals while Run goes on. r is called at any time then.
func (p *Policy) ReportTo(r Reporter) {
	p.mu.Lock()
	p.reporter = r
	p.mu.Unlock()
	p.reportRefused()
}

func (p *Policy) reportsTo() Reporter {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reporter
}

func (p *Policy) report(level slog.Level, message string) {
	p.reportsTo().ReportRules(level, message)
}

func checkDirectory(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = errors.New("not a directory")
	}
	if err != nil {
		return fmt.Errorf("rules.directory %s: %w: make it, or leave it out", dir, err)
	}
	return nil
}

// now is the clock of the inspector.
func (p *Policy) now() time.Duration { return time.Since(p.begin) }

// Inspector returns what judges packets by the rules.
func (p *Policy) Inspector() *rules.Inspector { return p.inspector }

// Close ends the writing of events. Those that wait are written first, if ctx allows.
func (p *Policy) Close(ctx context.Context) error { return p.events.close(ctx) }

// Reload reads the rules again, and has events written to files opened anew. If any file
// is wrong, nothing changes. It goes on where its caller does not wait.
func (p *Policy) Reload() error {
	p.events.reopen()
	return p.reload()
}

func (p *Policy) reload() error {
	p.reloading.Lock()
	defer p.reloading.Unlock()
	loaded, seen, err := p.load(p.inForce())
	if err != nil {
		p.refuse(errorsOf(err, p.config.Directories[0]), seen)
		return nil
	}
	changed, err := p.inspector.Replace(p.life, loaded)
	if err != nil {
		return fmt.Errorf("put rules in force: %w", err)
	}
	p.accept(loaded, seen)
	p.reportAccepted(len(loaded.Sets()), len(changed))
	return nil
}

// reportAccepted tells of files that are in force, and warns where they have no rules.
func (p *Policy) reportAccepted(sets, changed int) {
	from := strings.Join(p.config.Directories, ", ")
	if sets == 0 {
		p.report(slog.LevelWarn, fmt.Sprintf(
			"there are no rules in %s any more: every packet is accepted; other rules than before "+
				"count for %d attachments", from, changed))
		return
	}
	p.report(slog.LevelInfo, fmt.Sprintf(
		"%d sets of rules from %s are in force; other ones than before count for %d attachments",
		sets, from, changed))
}

// load reads the files as they are together at one moment, after which other rules were
// read: what is exchanged meanwhile, as Kubernetes does with a volume, is read again.
func (p *Policy) load(before *rules.Rules) (loaded *rules.Rules, seen reading, err error) {
	for range rereads {
		seen = make(reading)
		l := rules.Loader{
			Read: seen.noting(p.readFile), Labels: p.knowsLabels(), Inspector: p.config.Inspector,
		}
		loaded, err = l.Load(before, p.config.Directories...)
		if !seen.isOld(p.config.Directories) {
			break
		}
	}
	return loaded, seen, err
}

// rereads bounds how often files are read that change all the time.
const rereads = 5

// inForce returns the rules that are, nil for none.
func (p *Policy) inForce() *rules.Rules {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rules
}

func (p *Policy) accept(r *rules.Rules, seen reading) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules, p.loaded, p.errs, p.seen = r, time.Now(), nil, seen
	p.reloads[true]++
}

// refuse keeps the rules that are in force, and tells why.
func (p *Policy) refuse(errs []api.RuleError, seen reading) {
	p.mu.Lock()
	p.errs, p.seen = errs, seen
	p.reloads[false]++
	p.mu.Unlock()
	p.reportRefused()
}

// reportRefused tells of the files that were refused last, if any were.
func (p *Policy) reportRefused() {
	p.mu.Lock()
	errs, none := p.errs, p.rules == nil
	p.mu.Unlock()
	if len(errs) == 0 {
		return
	}
	holds := "those of before stay in force"
	if none {
		holds = "until they are mended, failure policies decide about all packets"
	}
	p.report(slog.LevelError, fmt.Sprintf(
		"rules are refused, %d errors, the first is %s; %s", len(errs), errs[0], holds))
}

// errorsOf returns what was wrong, which is at least one thing.
func errorsOf(err error, dir string) []api.RuleError {
	all, ok := errors.AsType[rules.Errors](err)
	if !ok {
		return []api.RuleError{{File: dir, Line: 1, Column: 1, Message: err.Error()}}
	}
	list := make([]api.RuleError, len(all))
	for i, e := range all {
		list[i] = api.RuleError{File: e.File, Line: e.Line, Column: e.Column, Message: e.Text}
	}
	return list
}
