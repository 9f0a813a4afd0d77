// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/nsqueue/nsqueue/daemon/rules"
)

// InspectorConfig is an inspector outside nsqueued.
type InspectorConfig struct {
	// Name of the inspector, for rules and for people: letters, digits, -, _ and ., 63 at
	// most. Required.
	Name string `json:"name"`
	// Pods are those that the inspector reads whole: it gets what rules accept of their
	// packets. {} means all pods. Without it the inspector gets only what rules leave to
	// it (action: inspect).
	Pods *PodsConfig `json:"pods,omitempty"`
	// OnFailure is what becomes of packets while the inspector is away, or takes longer
	// than its budget: Policy (the pod's failure policy), Accept, Drop, or Rules (what
	// rules decided without it, only for pods that it reads whole).
	OnFailure OnFailure `json:"onFailure,omitempty"`
	// Budget is how long the inspector may take for a packet.
	Budget Duration `json:"budget,omitempty"`
	// Exec is a program that reads a queue by itself, once for each pod; the inspector has no
	// socket then.
	Exec *ExecConfig `json:"exec,omitempty"`
	// Socket is the path of the unix socket where nsqueued listens for the inspector.
	Socket string `json:"socket,omitempty"`
	// Transport is how packets come: messages, or memfd, in memory that is shared with the
	// inspector, or descriptor: the inspector, root's own, reads a queue of each netns by
	// itself, by sockets that nsqueued hands out.
	Transport string `json:"transport,omitempty"`
	// AllowDescriptor must be true for the transport descriptor: who has such a socket can do
	// more than judge packets.
	AllowDescriptor bool `json:"allowDescriptor,omitempty"`
	// Descriptor is about the queues of the transport descriptor.
	Descriptor *DescriptorConfig `json:"descriptor,omitempty"`
	// User, by name or number, who may connect as well as root; empty means none.
	User string `json:"user,omitempty"`
	// Group, by name or number, whose members may connect as well; empty means none.
	Group string `json:"group,omitempty"`
}

// PodsConfig chooses pods when they are attached. All that is given must hold.
type PodsConfig struct {
	// Namespaces whose pods are chosen, in which a star stands for any letters; none means
	// all.
	Namespaces []string `json:"namespaces,omitempty"`
	// ExcludeNamespaces whose pods are not chosen.
	ExcludeNamespaces []string `json:"excludeNamespaces,omitempty"`
	// When is a condition on the pod in the language of rules, which may name pod.* only.
	When string `json:"when,omitempty"`
}

// OnFailure is what becomes of packets that an inspector does not answer.
type OnFailure string

// What becomes of them.
const (
	OnFailurePolicy OnFailure = "Policy"
	OnFailureAccept OnFailure = "Accept"
	OnFailureDrop   OnFailure = "Drop"
	OnFailureRules  OnFailure = "Rules"
)

// The transports of inspectors on sockets.
const (
	TransportMessages   = "messages"
	TransportMemfd      = "memfd"
	TransportDescriptor = "descriptor"
)

// Bounds of the budget: a shorter one ends before an honest inspector is scheduled on a busy
// node, a longer one would be felt.
const (
	defaultInspectorBudget = 50 * time.Millisecond
	minInspectorBudget     = 5 * time.Millisecond
	maxInspectorBudget     = 10 * time.Second
)

// DefaultInspector returns what counts where an inspector's configuration says nothing.
func DefaultInspector() InspectorConfig {
	return InspectorConfig{
		OnFailure: OnFailurePolicy, Budget: Duration(defaultInspectorBudget),
		Transport: TransportMessages,
	}
}

// effective returns the configuration with defaults in it.
func (c *InspectorConfig) effective() InspectorConfig {
	of, d := *c, DefaultInspector()
	of.OnFailure = cmp.Or(of.OnFailure, d.OnFailure)
	if of.Exec != nil || of.Transport == TransportDescriptor {
		of.Budget = cmp.Or(of.Budget, Duration(defaultExecBudget))
	}
	of.Budget = cmp.Or(of.Budget, d.Budget)
	of.Transport = cmp.Or(of.Transport, d.Transport)
	return of
}

// maxInspectors is how many there may be: each costs a look at each attachment.
const maxInspectors = 64

func (c *Config) validateInspectors() error {
	if n := len(c.Inspectors); n > maxInspectors {
		return at("inspectors", fmt.Errorf("%d are too many: want %d at most", n, maxInspectors))
	}
	var errs []error
	names, sockets := make(map[string]int), make(map[string]int)
	for i := range c.Inspectors {
		field := fmt.Sprintf("inspectors[%d]", i)
		one := c.Inspectors[i].effective()
		errs = append(errs, one.validate(field),
			unique(names, field+".name", one.Name, i),
			unique(sockets, field+".socket", one.Socket, i))
	}
	return errors.Join(errs...)
}

// unique refuses a value that an inspector before has.
func unique(seen map[string]int, field, value string, i int) error {
	if before, ok := seen[value]; ok && value != "" {
		return at(field, fmt.Errorf("%q is that of inspectors[%d], too", value, before))
	}
	seen[value] = i
	return nil
}

func (c *InspectorConfig) validate(field string) error {
	errs := []error{
		at(field+".name", validateInspectorName(c.Name)),
		at(field+".onFailure", c.validateOnFailure()),
		at(field+".budget", c.validateBudget()),
		c.validateKind(field),
	}
	if c.Pods != nil {
		_, err := c.Pods.compile()
		errs = append(errs, at(field+".pods", err))
	}
	return errors.Join(errs...)
}

// validateKind looks at what is of one kind of inspectors alone.
func (c *InspectorConfig) validateKind(field string) error {
	switch {
	case c.Exec == nil:
		return c.validateSocket(field)
	case c.Socket != "" || c.User != "" || c.Group != "" || c.Descriptor != nil:
		return at(field, errors.New("want a socket, or exec, and not both"))
	}
	return c.Exec.validate(field+".exec", c)
}

func validateInspectorName(name string) error {
	if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`).MatchString(name) {
		return fmt.Errorf("%.80q: want letters, digits, -, _ and ., 63 at most, the first a "+
			"letter or digit", name)
	}
	return nil
}

func (c *InspectorConfig) validateOnFailure() error {
	switch c.OnFailure {
	case OnFailurePolicy, OnFailureAccept, OnFailureDrop:
		return nil
	case OnFailureRules:
		if c.Pods == nil {
			return errors.New("Rules is for pods that the inspector reads whole: give it pods, " +
				"or say Policy, Accept or Drop")
		}
		return nil
	}
	return fmt.Errorf("%q: want Policy, Accept, Drop or Rules", string(c.OnFailure))
}

func (c *InspectorConfig) validateBudget() error {
	if d := time.Duration(c.Budget); d < minInspectorBudget || d > maxInspectorBudget {
		return fmt.Errorf("%v: want %v to %v", d, minInspectorBudget, maxInspectorBudget)
	}
	return nil
}

// compile returns what says whether a pod is chosen.
func (p *PodsConfig) compile() (func(*rules.Pod) bool, error) {
	s := rules.PodSelector{
		Namespaces: p.Namespaces, ExcludeNamespaces: p.ExcludeNamespaces, When: p.When,
	}
	return s.Compile()
}
