// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"strings"
	"testing"
)

func TestUses(t *testing.T) {
	list := mustCompile(t, set("s",
		"variables: [{name: v, expression: size(server.names) == 0}]",
		"rules:",
		"- {name: a, when: server.port == 1, action: drop}",
		"- {name: b, when: tls.sni == 'x' && (server.port == 2 || variables.v), action: drop}",
	)).Fold(new(Pod))
	if !list.ReadsNames() {
		t.Error("it reads the names of servers")
	}
	for name, want := range map[string]bool{
		"server.names": true, "server.port": true, "tls.sni": true, "dns.name": false, "x": false,
	} {
		if got := list.uses(name); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// A message is a reason to know whose socket it is, as a condition is; rules of other pods
// are none.
func TestReadsUser(t *testing.T) {
	for rule, want := range map[string]bool{
		`when: socket.uid == 0`: true,
		`when: server.port == 1 && (variables.root || tls.sni == '')`:             true,
		`when: server.port == 1; message: "socket.uid == 0 ? 'root' : 'another'"`: true,
		`when: server.port == 1`:                       false,
		`when: pod.name == 'other' && socket.uid == 0`: false,
	} {
		list := mustCompile(t, set("s",
			"variables: [{name: root, expression: socket.uid == 0}]",
			"rules:", "- name: a", "  action: log", "  "+strings.ReplaceAll(rule, "; ", "\n    "),
		)).Fold(&Pod{Name: "web"})
		if got := list.ReadsUser(); got != want {
			t.Errorf("%s: %t", rule, got)
		}
	}
}
