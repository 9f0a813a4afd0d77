// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/external"
	"github.com/nsqueue/nsqueue/daemon/internal/policy"
	"github.com/nsqueue/nsqueue/daemon/internal/programs"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// outside are the inspectors outside the daemon.
type outside struct {
	entries []external.Entry
	router  *external.Router
	// programs are those that run in pods.
	programs []*programs.Config
	// workers are what serves them, until the daemon stops.
	workers   []func(context.Context)
	states    []func() api.InspectorState
	reporters []func(reporter)
}

// newOutside makes the inspectors of the configuration, nil where it has none. An inspector
// of the program's own and those outside exclude each other.
func newOutside(c *Config, inspector inspect.Inspector) (*outside, error) {
	if len(c.Inspectors) == 0 {
		return nil, nil
	}
	if _, none := inspector.(inspect.AcceptAll); !none {
		return nil, fmt.Errorf("inspectors: this program has an inspector of its own, %T: "+
			"leave the key out", inspector)
	}
	o := &outside{}
	for i := range c.Inspectors {
		one := c.Inspectors[i].effective()
		entry, err := one.entry()
		if err != nil {
			return nil, err
		}
		if one.Exec != nil {
			err = o.makeExec(&one, &entry)
		} else {
			err = o.make(c, &one, &entry)
		}
		if err != nil {
			return nil, fmt.Errorf("inspectors[%d]: %w", i, err)
		}
		o.entries = append(o.entries, entry)
	}
	return o, nil
}

// entry returns what is common to all kinds of inspectors.
func (c *InspectorConfig) entry() (external.Entry, error) {
	e := external.Entry{Name: c.Name}
	if c.OnFailure == OnFailureRules {
		e.Unfit = fmt.Errorf("the inspector %s has onFailure: Rules, so that rules cannot leave "+
			"flows to it", c.Name)
	}
	if c.Pods == nil {
		return e, nil
	}
	var err error
	e.Selects, err = c.Pods.compile()
	return e, err
}

// make makes the inspector that the configuration is about.
func (o *outside) make(c *Config, one *InspectorConfig, entry *external.Entry) error {
	s, err := one.server(c)
	if err != nil {
		return err
	}
	if one.Transport == TransportDescriptor {
		o.makeDescriptor(one, s, entry)
	} else {
		entry.Inspector = s
		s.Changed = func(ctx context.Context, list []*inspect.Attachment) {
			o.router.Change(ctx, inspect.Change{Attachments: list})
		}
	}
	o.workers = append(o.workers, s.Run)
	o.states = append(o.states, s.State)
	o.reporters = append(o.reporters, func(r reporter) { s.Report = r.ReportInspector })
	return nil
}

// reporter remembers for operators what happens to inspectors.
type reporter interface {
	ReportInspector(level slog.Level, message string)
}

// reportTo has operators told. It is called before start.
func (o *outside) reportTo(r reporter) {
	if o == nil {
		return
	}
	for _, set := range o.reporters {
		set(r)
	}
}

// inspectors says how the inspectors are.
func (o *outside) inspectors() (list []api.InspectorState) {
	if o == nil {
		return nil
	}
	for _, state := range o.states {
		list = append(list, state())
	}
	return list
}

// reader says what reads an attachment.
func (o *outside) reader(key api.Key) (api.Reader, bool) {
	if o == nil {
		return api.Reader{}, false
	}
	return o.router.Reader(key.ContainerID, key.Ifname)
}

// check says why rules cannot leave flows to an inspector.
func (o *outside) check(name string) error {
	if o == nil {
		return external.Check(nil, name)
	}
	return external.Check(o.entries, name)
}

// route returns the inspector of the daemon, which asks rules first, if there are any.
func (o *outside) route(p *policy.Policy) inspect.Inspector {
	var first *rules.Inspector
	if p != nil {
		first = p.Inspector()
	}
	o.router = external.NewRouter(first, o.entries)
	return o.router
}

// start has the inspectors served.
func (o *outside) start(workers *group) {
	workers.add(o.router.Run)
	for _, run := range o.workers {
		workers.add(run)
	}
}
