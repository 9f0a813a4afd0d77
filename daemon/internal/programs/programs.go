// SPDX-License-Identifier: Apache-2.0

// Package programs keeps the programs of pods running: one [Keeper] starts one program
// in one netns, has packets go to it when it reads its queues, and starts it again when
// it has ended or hangs. What an earlier daemon has started it takes over.
package programs

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/cgroup"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/program"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// Config is a program that runs for pods.
type Config struct {
	// Name is the inspector's.
	Name string
	Spec program.Spec
	// Wait is how long a pod waits for the program at its start; 0 means that it does not.
	Wait time.Duration
	// Direct has the hook send packets to the program; else they come from the daemon.
	Direct bool
	// Budget is how long a packet may wait for the program before that counts as hung.
	Budget time.Duration
	// Backoff is how long to wait before the first restart. It doubles with each further
	// one, up to MaxBackoff, until the program has run for a while.
	Backoff, MaxBackoff time.Duration
	// Away is what becomes of packets while the program does not read.
	Away Away
	// Lender gives sockets to a program that runs already, and for all pods: Spec is only
	// about its queue then. Nil: the program is started for each pod.
	Lender Lender
}

// Away says what becomes of packets while the program does not read its queue.
type Away uint8

// What may become of them. AwayPolicy leaves it to the failure policy of the pod, and
// AwayRules to the rules alone.
const (
	AwayPolicy Away = iota
	AwayAccept
	AwayDrop
	AwayRules
)

// Accepts reports whether packets pass that nothing else decides about.
func (a Away) Accepts(failOpen bool) bool {
	switch a {
	case AwayAccept, AwayRules:
		return true
	case AwayDrop:
		return false
	}
	return failOpen
}

// Path is how packets get to a program. Its methods are called by the program's keeper,
// one at a time.
type Path interface {
	// Open has packets go to the queues from its return on. It takes the copies over.
	Open(copies []*nfqueue.Copy) error
	// Close has none go there any more, gives those that wait there their verdict, and
	// returns how many they were. Without Open before it may find what an earlier daemon has
	// left.
	Close() (answered int, err error)
	// Sent returns a number that changes when packets go to the program.
	Sent() uint64
	// Save is told what is to outlive the daemon.
	Save(p state.Program)
	// Report is told what happened, and Trouble what is wrong now, empty for nothing.
	Report(level slog.Level, message string)
	// Packets do not go to the program where it is away.
	Trouble(message string, away bool)
}

// Options are what all keepers of a daemon have in common.
type Options struct {
	// Mounts is where the node has its control groups.
	Mounts string
	// StateDir tells the groups of one daemon, and those after it, from others'.
	StateDir string
	Log      *slog.Logger
}

// Programs makes keepers. It is safe for concurrent use.
type Programs struct {
	tree     *cgroup.Tree
	making   sync.Mutex // no group is made while the directory of all is removed
	turns    turns
	restarts atomic.Uint64
	log      *slog.Logger
}

// New finds out where programs can run.
func New(o Options) (*Programs, error) {
	id, err := identity(o.StateDir)
	if err != nil {
		return nil, err
	}
	tree, err := cgroup.Open(o.Mounts, "nsqueue-"+id)
	if err != nil {
		return nil, err
	}
	return &Programs{tree: tree, turns: newTurns(), log: o.Log}, nil
}

// NewWithoutGroups is for a node without control groups: no program can be started, and
// sockets can be lent.
func NewWithoutGroups(log *slog.Logger) *Programs {
	return &Programs{tree: &cgroup.Tree{}, turns: newTurns(), log: log}
}

// identity names a directory the same way in all containers that mount it.
func identity(dir string) (string, error) {
	var s unix.Stat_t
	if err := unix.Stat(dir, &s); err != nil {
		return "", &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	return fmt.Sprintf("%x-%x", s.Dev, s.Ino), nil
}

// Sweep ends all programs of earlier daemons but those that are kept, or in groups that are
// to stay.
func (p *Programs) Sweep(stays map[string]bool) error {
	groups, err := p.tree.Groups()
	for _, name := range groups {
		done := make(chan struct{})
		if stays[name] || !p.turns.takeFree(name, done) {
			continue
		}
		p.log.Warn("ending a program that belongs to no pod", slog.String("group", name))
		err = errors.Join(err, p.remove(p.tree.Group(name)))
		p.turns.end(name, done)
	}
	return err
}

// groupOf is the name of the control group of a program in a netns.
func groupOf(cookie uint64, name string) string {
	return cgroup.NameOf(fmt.Sprint(cookie), name)
}

// Restarts is how often programs were started again.
func (p *Programs) Restarts() uint64 { return p.restarts.Load() }

// Groups returns the names of the programs' groups.
func (p *Programs) Groups() ([]string, error) { return p.tree.Groups() }

// make makes a group.
func (p *Programs) make(name string, l cgroup.Limits) error {
	p.making.Lock()
	defer p.making.Unlock()
	_, err := p.tree.Make(name, l)
	return err
}

// remove ends all processes of a group and removes it, and with the last one what all
// are below.
func (p *Programs) remove(g *cgroup.Group) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(killLimit)
	for {
		err := g.Kill()
		if err == nil {
			err = g.Remove()
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			p.tidy()
			return err
		}
		<-tick.C
	}
}

func (p *Programs) tidy() {
	p.making.Lock()
	defer p.making.Unlock()
	_ = p.tree.Remove() // which fails where there are others
}

// killLimit is how long processes may take to end that were killed.
const killLimit = 5 * time.Second

// Processes returns the programs' processes, also those that they have started.
func (p *Programs) Processes() (map[int]bool, error) {
	groups, err := p.tree.Groups()
	all := make(map[int]bool)
	for _, name := range groups {
		pids, e := p.tree.Group(name).Processes()
		err = errors.Join(err, e)
		for _, pid := range pids {
			all[pid] = true
		}
	}
	return all, err
}

// Keep begins to keep a program running in a netns, or takes over the one that an
// earlier daemon has recorded. It waits for the end of one that was kept before by the same
// name. An inspector that runs already is told of the label. The caller ends it.
func (p *Programs) Keep(
	c *Config, ns *netns.NetNS, pod program.Pod, label *inspect.Attachment, path Path,
	left *state.Program,
) (*Keeper, error) {
	clone, err := ns.Clone()
	if err != nil {
		return nil, err
	}
	name := groupOf(ns.ID().Cookie, c.Name)
	k := &Keeper{
		programs: p, config: c, ns: clone, pod: pod, label: label, path: path,
		group: p.tree.Group(name), groupName: name,
		log: p.log.With(slog.String("inspector", c.Name), slog.String("pod",
			api.Pod{Namespace: pod.Namespace, Name: pod.Name}.String())),
		end: make(chan ending, 1), done: make(chan struct{}), ready: make(chan struct{}),
	}
	k.status.Name, k.status.Queue = c.Name, c.Spec.Queue
	if left != nil {
		k.status.Restarts = left.Restarts
	}
	before := p.turns.take(name, k.done)
	go func() {
		defer p.turns.end(name, k.done)
		<-before
		k.run(left)
	}()
	return k, nil
}
