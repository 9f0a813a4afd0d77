// SPDX-License-Identifier: Apache-2.0

package compile

import "testing"

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
