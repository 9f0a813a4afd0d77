// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// shared returns the rules and sets of names that a program has taken over from another.
func shared(is, was *Program) (names []string) {
	for i, set := range was.Sets[0].sets {
		for _, now := range is.Sets[0].sets {
			if set.domains == now.domains && set.prefixes == now.prefixes {
				names = append(names, was.Sets[0].sets[i].name)
			}
		}
	}
	for _, rule := range was.Sets[0].Rules {
		for _, now := range is.Sets[0].Rules {
			if len(rule.clause.parts) > 0 && &rule.clause.parts[0] == &now.clause.parts[0] {
				names = append(names, rule.Name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// What is the same in two programs is compiled once.
func TestSame(t *testing.T) {
	const text = `
  trustAnnotations: true
  sets:
    names: {domains: [a.example]}
    nets: {cidrs: [10.0.0.0/8]}
    ads: {domainsFile: /etc/nsqueue/sets/ads.txt}
  variables:
  - {name: out, expression: flow.direction == "out"}
  - {name: web, expression: variables.out && server.port == 443}
  rules:
  - {name: direct, action: drop, when: server.port == 1 && tls.sni == "x"}
  - {name: named, action: drop, when: variables.web && sets.names.contains(tls.sni)}
  - {name: note, action: drop, when: 'pod.name == "p" && server.port == 2 && pod.annotations["x"] == "y"'}
  - {name: advert, action: drop, when: server.port == 3 && sets.ads.contains(tls.sni)}
  - {name: near, action: drop, when: server.port == 4 && sets.nets.contains(server.ip)}
`
	was := mustCompile(t, set("s", text))
	all := []string{"ads", "advert", "direct", "named", "names", "near", "nets", "note"}
	for change, without := range map[string][]string{
		"/ ":                                nil,
		"action: drop/action: log":          {"direct"}, // the first
		"server.port == 3/server.port == 5": {"advert"},
		"a.example/b.example":               {"named", "names"},
		"10.0.0.0/11.0.0.0":                 {"near", "nets"},
		`== "out"/!= "out"`:                 {"named"},
		"name: direct/name: renamed":        {"direct"},
		"rules:/rules: # moved\n":           nil,
	} {
		from, to, _ := strings.Cut(change, "/")
		changed := strings.Replace(text, from, to, 1)
		is, err := compileAfter(was, set("s", changed))
		if err != nil {
			t.Fatal(err)
		}
		want := slices.DeleteFunc(slices.Clone(all), func(name string) bool {
			return slices.Contains(without, name)
		})
		if diff := cmp.Diff(want, shared(is, was)); diff != "" {
			t.Errorf("%s: %s", change, diff)
		}
		fresh := mustCompile(t, set("s", changed))
		pod := &Pod{Name: "p"}
		if is.Fold(pod).Hash() != fresh.Fold(pod).Hash() {
			t.Errorf("%s: the hash is another one than without a program before", change)
		}
		if is.Sets[0].Rules[4].Line != fresh.Sets[0].Rules[4].Line {
			t.Errorf("%s: a rule is in line %d", change, is.Sets[0].Rules[4].Line)
		}
	}
}

// A rule that was right is wrong where what is around it is.
func TestSameIsChecked(t *testing.T) {
	const text = `
  trustAnnotations: true
  sets: {names: {domains: [a.example]}}
  variables: [{name: out, expression: flow.direction == "out"}]
  rules:
  - {name: a, action: drop, when: 'pod.annotations["x"] == "y" && variables.out'}
  - {name: b, action: drop, when: sets.names.contains(tls.sni) && variables.out}
`
	was := mustCompile(t, set("s", text))
	for change, want := range map[string]string{
		"trustAnnotations: true\n/priority: 7\n":                 "a.yaml:10:35: the author of a pod",
		"{names: {domains: [a.example]}}/{}":                     "\"sets\" is not known here",
		`== "out"/== 7`:                                          "found no matching overload",
		"flow.direction == \"out\"/server.port":                  "expected type 'bool' but found 'int'",
		"names: {domains: [a.example/names: {cidrs: [10.0.0.0%8": "found no matching overload",
	} {
		from, to, _ := strings.Cut(change, "/")
		changed := strings.Replace(text, from, strings.ReplaceAll(to, "%", "/"), 1)
		if _, err := compileAfter(was, set("s", changed)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", change, err)
		}
	}
	labels := set("s", `rules: [{name: l, action: log, when: 'pod.labels["x"] == "y"'}]`)
	was = mustCompile(t, labels)
	if _, err := Compile([]File{{Name: "l", Data: []byte(labels)}}, Options{Before: was}); err == nil {
		t.Error("labels are known where they are not")
	}
}
