// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// suggestFlags are the command's own flags.
type suggestFlags struct {
	podFilter

	since time.Duration
}

func newRulesSuggest(run runner) *cobra.Command {
	var f suggestFlags
	cmd := &cobra.Command{
		Use:   "suggest",
		Short: "Write rules that accept the names that pods asked for",
		Long: `Write rules that accept the names that pods asked for of late, and nothing else
that pods open: a set for each namespace, or for one pod. The sets audit, so
they refuse nothing until their mode is Enforce. Read them before: nsqueued
cannot know which names were right.

Names that were refused are left out, and so are texts that are no names.
nsqueued looks for names only where a rule asks for some, such as one that logs
with the condition
  tls.sni != "" || http.host != "" || dns.name != ""`,
		Example: `  nsqueuectl rules suggest --since 1h --namespace agents
  nsqueuectl rules suggest --pod agents/a1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				return suggestRules(ctx, c, &f)
			})
		},
	}
	cmd.Flags().DurationVar(&f.since, "since", time.Hour, "names of this `TIME` until now")
	f.addTo(cmd, run)
	return cmd
}

func suggestRules(ctx context.Context, c *command, f *suggestFlags) error {
	if err := f.parse(); err != nil {
		return err
	}
	if f.since <= 0 {
		return usageErrorf("since %s: want more than 0", f.since)
	}
	seen, err := call(ctx, c, func(ctx context.Context) (api.ObservedNames, error) {
		return c.client.Names(ctx, f.since)
	})
	if err != nil {
		return err
	}
	sets, left := suggest(seen.Names, f.podFilter)
	c.tellLeftOut(left, seen.Forgotten)
	if len(sets) == 0 {
		_, err := fmt.Fprintln(c.err, "No names.")
		return err
	}
	if err := checkSuggested(sets); err != nil {
		return err
	}
	for _, set := range sets {
		if err := c.writeSuggested(set); err != nil {
			return err
		}
	}
	return nil
}

func (c *command) tellLeftOut(left leftOut, forgotten uint64) {
	if left.refused > 0 {
		fmt.Fprintf(c.err, "%s left out: refused\n", text.Plural(left.refused, "name"))
	}
	if left.strange > 0 {
		fmt.Fprintf(c.err, "%s left out: no names of hosts\n", text.Plural(left.strange, "text"))
	}
	if forgotten > 0 {
		fmt.Fprintf(c.err, "%d more names than nsqueued can remember\n", forgotten)
	}
}

// writeSuggested prints a set as YAML unless JSON is wanted.
func (c *command) writeSuggested(set *suggested) error {
	if c.output != "json" {
		y := *c
		y.output = "yaml"
		return y.writeItem(set)
	}
	return c.writeItem(set)
}

// checkSuggested makes sure that what is suggested are rules.
func checkSuggested(sets []*suggested) error {
	var files []rules.File
	for i, set := range sets {
		var b bytes.Buffer
		if err := writeYAML(&b, set); err != nil {
			return err
		}
		files = append(files, rules.File{Name: "suggested " + strconv.Itoa(i), Data: b.Bytes()})
	}
	_, err := rules.Compile(files...)
	return err
}

// suggested is a document of rules.
type suggested struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]string `json:"metadata"`
	Spec       suggestedSpec     `json:"spec"`
}

type suggestedSpec struct {
	Priority int                     `json:"priority"`
	Mode     string                  `json:"mode"`
	Pods     suggestedPods           `json:"pods"`
	Default  string                  `json:"default"`
	Sets     map[string]suggestedSet `json:"sets"`
	Rules    []suggestedRule         `json:"rules"`
}

type suggestedPods struct {
	Namespaces []string `json:"namespaces,omitempty"`
	When       string   `json:"when,omitempty"`
}

type suggestedSet struct {
	Domains []string `json:"domains"`
}

type suggestedRule struct {
	Name   string `json:"name"`
	When   string `json:"when"`
	Action string `json:"action"`
}

// leftOut counts what no suggestion has.
type leftOut struct{ refused, strange int }

// observed are the names and ports of one protocol.
type observed struct {
	names map[string]bool
	ports map[int]bool
}

// suggest returns a set for each namespace, in their order.
func suggest(seen []api.ObservedName, f podFilter) (sets []*suggested, left leftOut) {
	hostName := regexp.MustCompile(`^([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}$`)
	namespaces := make(map[string]map[string]observed)
	for i := range seen {
		n := &seen[i]
		switch {
		case !f.matches(api.Pod{Namespace: n.Namespace, Name: n.Pod}):
			continue
		case n.Verdict != "accept":
			left.refused++
			continue
		case len(n.Name) > 253 || !hostName.MatchString(n.Name):
			left.strange++
			continue
		}
		if namespaces[n.Namespace] == nil {
			namespaces[n.Namespace] = make(map[string]observed)
		}
		addObserved(namespaces[n.Namespace], n)
	}
	for _, namespace := range slices.Sorted(maps.Keys(namespaces)) {
		sets = append(sets, newSuggested(namespace, f.pod, namespaces[namespace]))
	}
	return sets, left
}

// addObserved adds a name to those of its protocol: what is asked for by TLS and by QUIC
// is one.
func addObserved(apps map[string]observed, n *api.ObservedName) {
	app := n.App
	if app == "quic" {
		app = "tls"
	}
	o, ok := apps[app]
	if !ok {
		o = observed{names: make(map[string]bool), ports: make(map[int]bool)}
		apps[app] = o
	}
	o.names[n.Name] = true
	o.ports[n.Port] = true
}

func newSuggested(namespace, pod string, apps map[string]observed) *suggested {
	name := strings.Trim("suggested-"+namespace+"-"+pod, "-")
	s := &suggested{
		APIVersion: "nsqueue.io/v1alpha1", Kind: "RuleSet",
		Metadata: map[string]string{"name": name},
		Spec: suggestedSpec{
			Priority: 100, Mode: "Audit", Default: "reject", Sets: make(map[string]suggestedSet),
			Rules: []suggestedRule{{"incoming", `flow.direction == "in"`, "accept"}},
		},
	}
	if namespace != "" {
		s.Spec.Pods.Namespaces = []string{namespace}
	}
	if pod != "" {
		s.Spec.Pods.When = "pod.name == " + strconv.Quote(pod)
	}
	for _, a := range []struct{ app, name, field, protocols string }{
		{"dns", "dns", "dns.name", `app.protocol == "dns"`},
		{"tls", "tls", "tls.sni", `app.protocol in ["tls", "quic"]`},
		{"http", "http", "http.host", `app.protocol == "http"`},
	} {
		o, ok := apps[a.app]
		if !ok {
			continue
		}
		set := a.name + "Names"
		s.Spec.Sets[set] = suggestedSet{slices.Sorted(maps.Keys(o.names))}
		s.Spec.Rules = append(s.Spec.Rules, suggestedRule{
			a.name + "-names", a.protocols + " && " + portCondition(o.ports) + " && sets." + set +
				".contains(" + a.field + ")", "accept",
		})
	}
	return s
}

func portCondition(ports map[int]bool) string {
	var list []string
	for _, port := range slices.Sorted(maps.Keys(ports)) {
		list = append(list, strconv.Itoa(port))
	}
	return "server.port in [" + strings.Join(list, ", ") + "]"
}
