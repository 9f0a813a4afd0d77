// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/rules"
)

const sock = "socket: /run/i.sock"

func TestInspectorsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"{" + sock + "}":            `.name: "": want letters`,
		"{name: a b, " + sock + "}": `.name: "a b"`,
		"{name: a}":                 "want a socket",
		"{name: a, socket: i.sock}": `.socket: "i.sock": want an absolute path`,
		"{name: a, socket: /" + strings.Repeat("x", 107) + "}":    "at most 107 bytes",
		"{name: a, " + sock + ", onFailure: Pass}":                `.onFailure: "Pass": want Policy`,
		"{name: a, " + sock + ", onFailure: Rules}":               "give it pods",
		"{name: a, " + sock + ", budget: 1ms}":                    ".budget: 1ms: want 5ms to 10s",
		"{name: a, " + sock + ", transport: tcp}":                 "want messages or memfd or descriptor",
		"{name: a, " + sock + ", user: \"a:b\"}":                  ".user: \"a:b\"",
		"{name: a, " + sock + ", pods: {namespaces: [A]}}":        ".pods: \"A\" is no namespace",
		"{name: a, " + sock + ", pods: {when: server.port == 1}}": "pod.* only",
		"{name: a, " + sock + ", pods: {when: pod.x}}":            ".pods: ",
		"{name: a, " + sock + ", sockets: x}":                     "sockets",
	} {
		_, err := parseConfig([]byte(header + "inspectors: [" + text + "]\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", text, err, want)
		}
	}
}

// What two inspectors share, and where an error is.
func TestInspectorsRefusedByLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nsqueued.yaml")
	text := header + "inspectors:\n- {name: a, " + sock + "}\n- name: a\n  " + sock + "\n  user: c:d\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := LoadConfig(file)
	for _, want := range []string{
		`line 5: inspectors[1].name: "a" is that of inspectors[0], too`,
		"line 6: inspectors[1].socket: \"/run/i.sock\" is that of inspectors[0], too",
		`line 7: inspectors[1].user: "c:d"`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

func TestInspectorsSelect(t *testing.T) {
	c, err := parseConfig([]byte(header + "inspectors:\n- {name: a, " + sock + ", pods: {" +
		"namespaces: [\"team-*\"], excludeNamespaces: [team-x], when: 'pod.name != \"y\"'}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := c.Inspectors[0].entry()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		namespace, name string
		want            bool
	}{{"team-a", "x", true}, {"team-x", "x", false}, {"other", "x", false}, {"team-a", "y", false}} {
		if got := e.Selects(&rules.Pod{Namespace: tt.namespace, Name: tt.name}); got != tt.want {
			t.Errorf("%s/%s is selected: %v", tt.namespace, tt.name, got)
		}
	}
	if one := c.Inspectors[0].effective(); one.OnFailure != OnFailurePolicy ||
		one.Transport != TransportMessages || one.Budget != Duration(defaultInspectorBudget) {
		t.Errorf("defaults %+v", one)
	}
}

// Rules may leave flows to no inspector but those that take them.
func TestRulesCheckInspectors(t *testing.T) {
	o := &outside{}
	for _, one := range []InspectorConfig{
		{Name: "a"}, {Name: "b", OnFailure: OnFailureRules, Pods: &PodsConfig{}},
	} {
		e, err := one.entry()
		if err != nil {
			t.Fatal(err)
		}
		o.entries = append(o.entries, e)
	}
	if err := o.check("a"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"b", "c"} {
		if err := o.check(name); err == nil {
			t.Errorf("rules may use %s", name)
		}
	}
	var none *outside
	if none.check("a") == nil {
		t.Error("rules may use an inspector where there is none")
	}
}
