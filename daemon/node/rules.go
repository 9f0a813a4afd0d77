// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/policy"
)

// RulesConfig is about rules, by which nsqueued inspects.
type RulesConfig struct {
	// Directory has the files of rules, *.yaml. Without it and without directories there
	// are no rules, and every packet is accepted.
	Directory string `json:"directory"`
	// Directories have more files of rules, such as mounted ConfigMaps. No two sets in any
	// of them have the same name.
	Directories []string `json:"directories"`
	// Resolvers are the addresses whose DNS answers tell the names of servers; none
	// means everybody's.
	Resolvers []string `json:"resolvers"`
	// Memory is how many bytes the undecided flows of all pods may take.
	Memory int `json:"memory"`
	// PerRuleMetrics: each rule has a series of its own.
	PerRuleMetrics bool              `json:"perRuleMetrics"`
	Events         RulesEventsConfig `json:"events"`
}

// RulesEventsConfig says where events about refused flows go, as lines of EVE JSON.
type RulesEventsConfig struct {
	// File is the path of a file that lines are appended to; empty means none.
	File string `json:"file"`
	// Socket is the path of a unix socket of the stream kind that somebody listens on;
	// empty means none.
	Socket string `json:"socket"`
	// Stderr has the lines go to nsqueued's standard error, too.
	Stderr bool `json:"stderr"`
}

const (
	defaultRulesMemory = 64 << 20
	minRulesMemory     = 1 << 20
	// closeEvents is how long the end of the daemon waits for events to be written.
	closeEvents = time.Second
)

func (c *RulesConfig) validate() error {
	var errs []error
	for field, path := range map[string]string{
		"rules.directory": c.Directory, "rules.events.file": c.Events.File,
		"rules.events.socket": c.Events.Socket,
	} {
		if path != "" {
			errs = append(errs, absolute(field, path))
		}
	}
	errs = append(errs, c.validateDirectories())
	if c.Memory < minRulesMemory {
		errs = append(errs,
			fmt.Errorf("rules.memory %d: want at least %d", c.Memory, minRulesMemory))
	}
	_, err := c.resolvers()
	return errors.Join(append(errs, err)...)
}

// validateDirectories refuses paths that are not absolute, and those named twice.
func (c *RulesConfig) validateDirectories() error {
	var errs []error
	seen := make(map[string]bool)
	for i, path := range c.all() {
		field := "rules.directories"
		if i == 0 && c.Directory != "" {
			field = "rules.directory"
		} else {
			errs = append(errs, absolute(field, path))
		}
		if clean := filepath.Clean(path); seen[clean] {
			errs = append(errs, fmt.Errorf("%s %s: named twice", field, path))
		} else {
			seen[clean] = true
		}
	}
	return errors.Join(errs...)
}

// all returns the directories of files of rules.
func (c *RulesConfig) all() []string {
	if c.Directory == "" {
		return c.Directories
	}
	return append([]string{c.Directory}, c.Directories...)
}

// On reports whether there are rules to inspect by.
func (c *RulesConfig) On() bool { return len(c.all()) > 0 }

func (c *RulesConfig) resolvers() ([]netip.Addr, error) {
	var list []netip.Addr
	for _, text := range c.Resolvers {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("rules.resolvers %q: want the address of a DNS server", text)
		}
		list = append(list, a.Unmap())
	}
	return list, nil
}

// newPolicy returns the rules of the configuration, nil where it has none. An inspector
// of the program's own and rules exclude each other.
func newPolicy(
	ctx context.Context, c *Config, inspector inspect.Inspector, outside *outside,
	labels func() bool, log *slog.Logger,
) (*policy.Policy, error) {
	if !c.Rules.On() {
		return nil, nil
	}
	if _, none := inspector.(inspect.AcceptAll); !none {
		return nil, fmt.Errorf("rules.directory %s: this program has an inspector of its own, %T: "+
			"leave the key out", strings.Join(c.Rules.all(), ", "), inspector)
	}
	resolvers, err := c.Rules.resolvers()
	if err != nil {
		return nil, err
	}
	return policy.New(ctx, policy.Config{
		Directories: c.Rules.all(), Memory: c.Rules.Memory, Resolvers: resolvers,
		Settled: time.Duration(c.Settle.Timeout), Labels: labels, Inspector: outside.check,
		Log: log,
		Events: policy.Events{
			File: c.Rules.Events.File, Socket: c.Rules.Events.Socket, Stderr: c.Rules.Events.Stderr,
		},
	})
}

// endPolicy writes the events that wait.
func endPolicy(p *policy.Policy) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeEvents)
	defer cancel()
	return p.Close(ctx)
}

// catchHangups returns what delivers each SIGHUP from now on, and what ends that. Without
// rules, the signal is the program's own.
func catchHangups(c *Config) (<-chan os.Signal, func()) {
	if !c.Rules.On() {
		return nil, func() {}
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, unix.SIGHUP)
	return hangups, func() { signal.Stop(hangups) }
}

// followHangups reads the rules again at each SIGHUP.
func (d *daemon) followHangups(ctx context.Context) {
	follow(ctx, d.hangups, func(os.Signal) {
		if err := d.policy.Reload(); err != nil && ctx.Err() == nil {
			d.log.Error("cannot reload rules", slog.Any("error", err))
		}
	})
}

// errNoRules is the answer to calls that need rules.
var errNoRules = api.Errorf(api.CodeNotAvailable,
	"nsqueued has no rules: set rules.directory in its configuration, or start it with --rules")

// Rules returns the rules in force.
func (b *backend) Rules(context.Context) (api.Rules, error) {
	if b.policy == nil {
		return api.Rules{}, errNoRules
	}
	return b.policy.Rules(), nil
}

// ReloadRules reads the rules again.
func (b *backend) ReloadRules(context.Context) (api.Rules, error) {
	if b.policy == nil {
		return api.Rules{}, errNoRules
	}
	err := b.policy.Reload()
	return b.policy.Rules(), err
}

// RulesOf returns the rules that concern an attachment.
func (b *backend) RulesOf(_ context.Context, key api.Key) ([]api.EffectiveRule, error) {
	if b.policy == nil {
		return nil, errNoRules
	}
	list, ok := b.policy.Of(key)
	if !ok {
		return nil, api.Errorf(api.CodeNotAttached, "%s is not attached", key)
	}
	return list, nil
}

// Names returns the names that pods asked for.
func (b *backend) Names(_ context.Context, since time.Duration) (api.ObservedNames, error) {
	if b.policy == nil {
		return api.ObservedNames{}, errNoRules
	}
	return b.policy.Names(since), nil
}
