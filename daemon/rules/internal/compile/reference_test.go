// SPDX-License-Identifier: Apache-2.0

package compile

import "testing"

func TestReference(t *testing.T) {
	want := map[string][3]string{
		"pod.name":        {"string", "attach", `""`},
		"pod.annotations": {"map(string, string)", "attach", ""},
		"client.ip":       {"net.IP", "the first packet", ""},
		"socket.uid":      {"int", "the first packet", "-1"},
		"server.names":    {"list(string)", "the first packet", "[]"},
		"app.protocol":    {"string", "the first bytes of payload", `""`},
		"app.error":       {"string", "the end of looking", `""`},
		"tls.ech":         {"bool", "the ClientHello", "false"},
		"dns.rcode":       {"int", "each question of a message", "0"},
		"http.host":       {"string", "the head of each request", `""`},
	}
	for _, v := range Variables() {
		if v.Text == "" {
			t.Errorf("%s says nothing of itself", v.Name)
		}
		w, ok := want[v.Name]
		got := [3]string{v.Type(), v.KnownFrom(), v.Absent()}
		if ok && got != w {
			t.Errorf("%s: %q, want %q", v.Name, got, w)
		}
		delete(want, v.Name)
	}
	for name := range want {
		t.Errorf("there is no %s", name)
	}
}
