// SPDX-License-Identifier: Apache-2.0

// Package suggest writes rules: such that accept names which pods were seen to ask for,
// and such that accept what rules have refused.
package suggest

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// YAML returns the set as a document. Its error says why it would be no rules.
func (s *Set) YAML() ([]byte, error) {
	b, err := yaml.Marshal(s)
	if err != nil {
		return nil, err
	}
	_, err = rules.Compile(rules.File{Name: s.Metadata["name"], Data: b})
	return b, err
}

// Set is a document of rules.
type Set struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]string `json:"metadata"`
	Spec       Spec              `json:"spec"`
}

// Spec is what the set says.
type Spec struct {
	Priority int              `json:"priority"`
	Mode     string           `json:"mode"`
	Pods     Pods             `json:"pods"`
	Default  string           `json:"default"`
	Sets     map[string]Names `json:"sets"`
	Rules    []Rule           `json:"rules"`
}

// Pods says which pods it is about.
type Pods struct {
	Namespaces []string `json:"namespaces,omitempty"`
	When       string   `json:"when,omitempty"`
}

// Names is a set of names.
type Names struct {
	Domains []string `json:"domains"`
}

// Rule is a rule of the set.
type Rule struct {
	Name   string `json:"name"`
	When   string `json:"when"`
	Action string `json:"action"`
}

// LeftOut counts what no suggestion has: names that were refused, and texts that are no
// names.
type LeftOut struct{ Refused, Strange int }

// observed are the names and ports of one protocol.
type observed struct {
	names map[string]bool
	ports map[int]bool
}

// From returns a set for each namespace, in their order, that accepts the names which
// pods were seen to ask for. It audits. Where a pod is named, the sets are about pods of
// that name alone; matches says whose names count.
func From(
	seen []api.ObservedName, pod string, matches func(api.Pod) bool,
) (sets []*Set, left LeftOut) {
	namespaces := make(map[string]map[string]observed)
	for i := range seen {
		n := &seen[i]
		switch {
		case !matches(api.Pod{Namespace: n.Namespace, Name: n.Pod}):
			continue
		case n.Verdict != "accept":
			left.Refused++
			continue
		case !isHostName(n.Name):
			left.Strange++
			continue
		}
		if namespaces[n.Namespace] == nil {
			namespaces[n.Namespace] = make(map[string]observed)
		}
		addObserved(namespaces[n.Namespace], n)
	}
	for _, namespace := range slices.Sorted(maps.Keys(namespaces)) {
		sets = append(sets, newSet(namespace, pod, namespaces[namespace]))
	}
	return sets, left
}

// addObserved adds a name to those of its protocol.
func addObserved(seen map[string]observed, n *api.ObservedName) {
	a, ok := appOf(n.App)
	if !ok {
		return
	}
	o, ok := seen[a.name]
	if !ok {
		o = observed{names: make(map[string]bool), ports: make(map[int]bool)}
		seen[a.name] = o
	}
	o.names[n.Name] = true
	o.ports[n.Port] = true
}

func newSet(namespace, pod string, seen map[string]observed) *Set {
	name := strings.Trim("suggested-"+namespace+"-"+pod, "-")
	s := &Set{
		APIVersion: "nsqueue.io/v1alpha1", Kind: "RuleSet",
		Metadata: map[string]string{"name": name},
		Spec: Spec{
			Priority: 100, Mode: "Audit", Default: "reject", Sets: make(map[string]Names),
			Rules: []Rule{{"incoming", `flow.direction == "in"`, "accept"}},
		},
	}
	s.Spec.Pods = podsOf(namespace, pod)
	for _, a := range apps() {
		o, ok := seen[a.name]
		if !ok {
			continue
		}
		set := a.name + "Names"
		s.Spec.Sets[set] = Names{slices.Sorted(maps.Keys(o.names))}
		s.Spec.Rules = append(s.Spec.Rules, Rule{
			a.name + "-names", a.condition + " && " + portCondition(o.ports) + " && sets." + set +
				".contains(" + a.field + ")", "accept",
		})
	}
	return s
}

// app is a protocol of which rules know names.
type app struct{ name, field, condition string }

func apps() []app {
	return []app{
		{"dns", "dns.name", `app.protocol == "dns"`},
		{"tls", "tls.sni", `app.protocol in ["tls", "quic"]`},
		{"http", "http.host", `app.protocol == "http"`},
	}
}

// appOf returns that of a name's protocol: what is asked for by TLS and by QUIC is one.
func appOf(protocol string) (a app, ok bool) {
	if protocol == "quic" {
		protocol = "tls"
	}
	all := apps()
	i := slices.IndexFunc(all, func(a app) bool { return a.name == protocol })
	if i < 0 {
		return app{}, false
	}
	return all[i], true
}

func podsOf(namespace, pod string) (p Pods) {
	if namespace != "" {
		p.Namespaces = []string{namespace}
	}
	if pod != "" {
		p.When = "pod.name == " + strconv.Quote(pod)
	}
	return p
}

// isHostName reports whether a text has letters, digits, - and _ between its dots, as
// names of hosts have that rules know.
func isHostName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, labelLetters) != "" {
			return false
		}
	}
	return true
}

const labelLetters = "abcdefghijklmnopqrstuvwxyz0123456789_-"

func portCondition(ports map[int]bool) string {
	var list []string
	for _, port := range slices.Sorted(maps.Keys(ports)) {
		list = append(list, strconv.Itoa(port))
	}
	return "server.port in [" + strings.Join(list, ", ") + "]"
}
