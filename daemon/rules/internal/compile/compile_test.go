// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const sandboxes = `# Sandboxes of agents.
apiVersion: nsqueue.io/v1alpha1
kind: RuleSet
metadata: {name: agent-sandboxes}
spec:
  priority: 100
  mode: Enforce
  pods:
    namespaces: [agents, "team-*"]
    excludeNamespaces: [team-infra]
    when: pod.annotations["nsqueue.io/profile"] == "sandbox"
  default: reject
  undecided: Hold
  sets:
    registries: {domains: [packages.example.org, "*.mirror.example.net"]}
    cluster:    {cidrs: [10.96.0.0/12, "fd00::/8"]}
    metadata:   {cidrs: [169.254.169.254/32, "fd00:ec2::254/128"]}
    ads:        {domainsFile: /etc/nsqueue/sets/ads.txt}
  variables:
  - {name: egress, expression: flow.direction == "out"}
  - {name: web,    expression: "variables.egress && server.port in [80, 443]"}
  rules:
  - name: cloud-metadata
    when: sets.metadata.contains(server.ip)
    action: reject
    severity: high
    message: "'pod ' + pod.name + ' asked for cloud credentials'"
  - name: dns-to-the-cluster-only
    when: app.protocol == "dns" && sets.cluster.contains(server.ip) && !sets.ads.contains(dns.name)
    action: accept
  - name: package-registries
    when: variables.web && app.protocol in ["tls", "quic"] && sets.registries.contains(tls.sni)
          && (size(server.names) == 0 || server.names.exists(n, sets.registries.contains(n)))
    action: accept
  - name: say-so
    when: variables.egress
    action: log
`

func mustCompile(tb testing.TB, texts ...string) *Program {
	tb.Helper()
	program, err := compileTexts(texts...)
	if err != nil {
		tb.Fatal(err)
	}
	return program
}

func compileTexts(texts ...string) (*Program, error) { return compileAfter(nil, texts...) }

// compileAfter compiles texts after those of another program.
func compileAfter(before *Program, texts ...string) (*Program, error) {
	var files []File
	for i, text := range texts {
		files = append(files, File{Name: string(rune('a'+i)) + ".yaml", Data: []byte(text)})
	}
	return Compile(files, Options{Labels: true, Before: before, ReadFile: func(name string) ([]byte, error) {
		if name != "/etc/nsqueue/sets/ads.txt" {
			return nil, errors.New("there is no such file")
		}
		return []byte("ads.example\n*.ads.example # all\n"), nil
	}})
}

// set returns a set of rules with these lines in its spec.
func set(name string, lines ...string) string {
	return "apiVersion: nsqueue.io/v1alpha1\nkind: RuleSet\nmetadata: {name: " + name + "}\nspec:\n  " +
		strings.Join(lines, "\n  ") + "\n"
}

// one returns a set with one rule that rejects.
func one(when string) string {
	return set("s", "sets: {names: {domains: [\"*.blocked.example\"]}, nets: {cidrs: [10.0.0.0/8]}}",
		"rules:", "- name: r", "  action: reject", "  when: "+when)
}

func sandbox() *Pod {
	return &Pod{
		Namespace: "agents", Name: "a1", Annotations: map[string]string{"nsqueue.io/profile": "sandbox"},
	}
}

func tlsFlow(pod *Pod, name string) *Flow {
	f := &Flow{
		Known: Packet, Pod: pod, Direction: "out", Protocol: "tcp", Family: 4, ServerPort: 443,
		ClientPort: 40000, ClientIP: netip.MustParseAddr("10.244.0.1"),
		ServerIP: netip.MustParseAddr("203.0.113.9"), SocketUID: -1, TLSServerName: name,
	}
	f.KnowApp("tls")
	return f
}

func TestSandboxes(t *testing.T) {
	program := mustCompile(t, sandboxes)
	if diff := cmp.Diff([]string{"/etc/nsqueue/sets/ads.txt"}, program.Files()); diff != "" {
		t.Error(diff)
	}
	list := program.Fold(sandbox())
	f, p := tlsFlow(sandbox(), "a.mirror.example.net"), &Progress{}

	f.Known = Packet
	got := list.Decide(f, p)
	if got.Verdict != Undecided || got.Name() != "agent-sandboxes/package-registries" || !got.Set.Hold {
		t.Errorf("the SYN: %v by %s", got.Verdict, got.Name())
	}
	f.KnowApp("tls")
	if got = list.Decide(f, p); got.Verdict != Undecided || got.Name() != "agent-sandboxes/package-registries" {
		t.Errorf("the first bytes: %v by %s", got.Verdict, got.Name())
	}
	f.Known |= TLS
	if got = list.Decide(f, p); got.Verdict != Accepted || got.Rule.Name != "package-registries" || !got.Settle() {
		t.Errorf("the hello: %v by %s", got.Verdict, got.Name())
	}
	other := tlsFlow(sandbox(), "www.blocked.example")
	other.Known |= TLS
	p.Reset()
	got = list.Decide(other, p)
	if got.Verdict != Rejected || got.Name() != "agent-sandboxes/default" || len(p.Effects) != 1 ||
		p.Effects[0].Name() != "agent-sandboxes/say-so" {
		t.Errorf("another name: %v by %s, %v", got.Verdict, got.Name(), p.Effects)
	}
	other.Known, other.ServerIP = Packet, netip.MustParseAddr("169.254.169.254")
	p.Reset()
	got = list.Decide(other, p)
	if got.Verdict != Rejected || got.Rule.Message(other) != "pod a1 asked for cloud credentials" {
		t.Errorf("the cloud's metadata: %v by %s", got.Verdict, got.Name())
	}
}

func TestFold(t *testing.T) {
	program := mustCompile(t, sandboxes, set("z", "priority: 7", "rules:",
		"- {name: prod, when: 'pod.namespace == \"prod\" && server.port == 22', action: drop}",
		"- {name: all, when: 'server.port == 23 || pod.name == \"a1\"', action: log}"))
	folded := func(namespace, profile string) (names []string) {
		pod := sandbox()
		pod.Namespace, pod.Annotations = namespace, map[string]string{"nsqueue.io/profile": profile}
		for _, rule := range program.Fold(pod).Rules() {
			names = append(names, rule.Name)
		}
		return names
	}
	all := []string{"all", "cloud-metadata", "dns-to-the-cluster-only", "package-registries", "say-so"}
	for _, c := range []struct {
		namespace, profile string
		want               []string
	}{
		{"agents", "sandbox", all},
		{"team-a", "sandbox", all},
		{"team-infra", "sandbox", []string{"all"}},
		{"agents", "", []string{"all"}},
		{"prod", "sandbox", []string{"prod", "all"}},
	} {
		if diff := cmp.Diff(c.want, folded(c.namespace, c.profile)); diff != "" {
			t.Errorf("%s %s: %s", c.namespace, c.profile, diff)
		}
	}
	one, other := sandbox(), sandbox()
	if other.Name = "a2"; program.Fold(one) != program.Fold(other) {
		t.Error("equal pods have lists of their own")
	}
}

// The hash of a list is that of the rules of its pods, not of their files.
func TestHash(t *testing.T) {
	pod, other := sandbox(), &Pod{Namespace: "prod"}
	was := mustCompile(t, sandboxes)
	for name, change := range map[string]func(string) string{
		"comments": func(s string) string { return "# new\n" + strings.ReplaceAll(s, "kind:", "kind:  ") },
		"a rule":   func(s string) string { return strings.Replace(s, "== \"dns\"", "== \"ssh\"", 1) },
		"a set":    func(s string) string { return strings.Replace(s, "10.96.0.0/12", "10.0.0.0/8", 1) },
		"default":  func(s string) string { return strings.Replace(s, "default: reject", "default: drop", 1) },
		"variable": func(s string) string { return strings.Replace(s, "[80, 443]", "[443, 80]", 1) },
		"in it":    func(s string) string { return strings.Replace(s, `== "out"`, `!= "in"`, 1) },
		// What no rule of the pod uses does not count.
		"no pods":  func(s string) string { return strings.Replace(s, "[agents, ", "[other, agents, ", 1) },
		"no set":   func(s string) string { return strings.Replace(s, "  sets:\n", "  sets:\n    no: {cidrs: []}\n", 1) },
		"no order": func(s string) string { return strings.Replace(s, "priority: 100", "priority: 101", 1) },
	} {
		is := mustCompile(t, change(sandboxes))
		stays := name == "comments" || strings.HasPrefix(name, "no ")
		if same := was.Fold(pod).Hash() == is.Fold(pod).Hash(); same != stays {
			t.Errorf("%s: the hash stays: %v", name, same)
		}
		if was.Fold(other).Hash() != is.Fold(other).Hash() {
			t.Errorf("%s: the hash of another pod changes", name)
		}
	}
}

// All that rules do in words of the rows: true, false and unknown.
func TestConditions(t *testing.T) {
	hello := tlsFlow(&Pod{Name: "p", Annotations: map[string]string{"k": "v"}}, "www.blocked.example")
	hello.Known |= TLS | Failure
	hello.TLSALPN, hello.ServerNames = []string{"h2", "http/1.1"}, []string{"a.example", "b.example"}
	hello.Known &^= HTTP
	conditions := map[Tri][]string{
		True: {
			`sets.names.contains(tls.sni)`,
			`sets.nets.contains(client.ip) && !sets.nets.contains(server.ip)`,
			`domain(tls.sni).matches("*.blocked.example")`,
			`tls.sni.startsWith("www.") && tls.sni.endsWith(".example")`,
			`tls.sni.matches("^w+\\.b")`,
			`tls.sni.contains("lock")`,
			`size(tls.alpn) == 2 && tls.alpn.size() == 2`,
			`tls.alpn == ["h2", "http/1.1"] && tls.alpn != []`,
			`"h2" in tls.alpn && !("h3" in tls.alpn)`,
			`server.port in [80, 443, 1, 2, 3, 4, 5, 6, 7, 8, 9]`,
			`server.ip in [ip("203.0.113.9")]`,
			`server.port in [client.port, 443]`,
			`server.ip == ip("203.0.113.9") && client.ip != server.ip`,
			`cidr("203.0.113.0/24").containsIP(server.ip)`,
			`server.names.all(n, n.endsWith(".example"))`,
			`server.names.exists(n, n == "b.example")`,
			`server.names.exists(n, server.names.all(m, m <= n))`,
			`[1, 443].exists(p, p == server.port)`,
			`(server.port == 22 ? "ssh" : app.protocol) == "tls"`,
			`pod.annotations["k"] == "v" && pod.annotations.none == ""`,
			`"k" in pod.annotations && !("n" in pod.labels)`,
			`flow.family == 4 && flow.family < 6 && !flow.midstream`,
			`socket.uid == -1`,
			`tls.ech == false`,
			`server.port == 443 || http.host == "x"`,
			`!(http.host == "x") || server.port == 443`,
			`server.names.exists(n, n == http.host || n == "a.example")`,
			`dns.name == ""`, // TLS has no question
		},
		False: {
			`domain(tls.sni).matches("blocked.example")`,
			`server.port == 22 && http.host == "x"`,
		},
		Unknown: {
			`http.host == "x"`,
			`http.host in ["x", tls.sni]`,
			`server.names.exists(n, n == http.host)`,
			`(http.host == "x") == true`,
			`size(http.host) > 2 ? true : true`,
		},
	}
	for want, list := range conditions {
		for _, when := range list {
			sameAnswer(t, hello, when, want)
		}
	}
}

func sameAnswer(t *testing.T, f *Flow, when string, want Tri) {
	t.Helper()
	text := strings.Replace(one("x"), "when: x", "when: |-\n      "+when, 1)
	text = strings.Replace(text, "spec:\n", "spec:\n  trustAnnotations: true\n", 1)
	program, err := compileTexts(text)
	if err != nil {
		t.Errorf("%s: %v", when, err)
		return
	}
	got := answerOf(program.Sets[0].Rules[0], f)
	if got != want {
		t.Errorf("%s is %v, want %v", when, got, want)
	}
}

// answerOf returns the answer of a rule's whole condition.
func answerOf(rule *Rule, f *Flow) Tri {
	var parts []value
	for _, part := range []func(*Flow) Tri{rule.pod, rule.flow} {
		if part != nil {
			parts = append(parts, value{tri: part})
		}
	}
	return allOf(parts)(f)
}

func TestStages(t *testing.T) {
	for when, want := range map[string]Stage{
		`server.port == 22`:                            Packet,
		`pod.name == "x" && app.protocol == "ssh"`:     OfPod | App,
		`tls.sni == "x" || http.host == "x"`:           TLS | HTTP,
		`server.names.exists(n, n == dns.name)`:        Packet | DNS,
		`app.error != ""`:                              Failure,
		`server.port in [80] && tls.sni.matches("^a")`: Packet | TLS,
	} {
		program := mustCompile(t, one("|-\n      "+when))
		if got := program.Sets[0].Rules[0].Reads; got != want {
			t.Errorf("%s reads %b, want %b", when, got, want)
		}
	}
}

func TestVariablesAreTold(t *testing.T) {
	var names []string
	for _, v := range Variables() {
		names = append(names, v.Name)
		if v.Text == "" || v.Reads == 0 || v.Type() == "" {
			t.Errorf("%s is not told", v.Name)
		}
	}
	if slices.Sort(names); len(slices.Compact(names)) != len(Variables()) {
		t.Error("a name is there twice")
	}
	if len(names) > 64 {
		t.Error("a nameSet has not room for all names")
	}
}

// A file of names counts where a rule of the pod uses it.
func TestHashOfFiles(t *testing.T) {
	hash := func(names string, pod string) string {
		program, err := Compile([]File{{Name: "a", Data: []byte(set("s", "sets: {ads: {domainsFile: /f}}", "rules:",
			"- {name: a, when: 'pod.name == \"a\" && sets.ads.contains(dns.name)', action: drop}"))}},
			Options{ReadFile: func(string) ([]byte, error) { return []byte(names), nil }})
		if err != nil {
			t.Fatal(err)
		}
		return program.Fold(&Pod{Name: pod}).Hash()
	}
	if hash("a.example", "a") == hash("b.example", "a") {
		t.Error("the hash stays though the file changed")
	}
	if hash("a.example", "b") != hash("b.example", "b") {
		t.Error("the hash of a pod that does not use the file changed")
	}
}

func TestWaitsFor(t *testing.T) {
	for when, want := range map[string][]string{
		`server.port == 443 && tls.sni == "x"`:                                {"tls.sni"},
		`server.port == 22 && tls.sni == "x"`:                                 nil,
		`(server.port == 22 && http.host == "x") || app.protocol == "ssh"`:    {"app.protocol"},
		`(server.port == 443 && http.host == "x") || app.protocol == "ssh"`:   {"app.protocol", "http.host"},
		`!(tls.sni == dns.name) && server.names.exists(n, n == http.path)`:    {"tls.sni", "dns.name", "http.path"},
		`pod.name == "p" && (size(tls.alpn) > 1 ? app.error == "" : tls.ech)`: {"app.error", "tls.alpn", "tls.ech"},
	} {
		rule := mustCompile(t, one("|-\n      "+when)).Sets[0].Rules[0]
		f := tlsFlow(&Pod{Name: "p"}, "")
		f.Known, f.ServerNames = Packet, []string{"a"}
		if diff := cmp.Diff(want, (Decision{Set: rule.Set, Rule: rule}).WaitsFor(f)); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
	if got := (Decision{Set: &Set{}, Midstream: true}).WaitsFor(&Flow{}); !slices.Equal(got, []string{"flow.midstream"}) {
		t.Errorf("midstream waits for %v", got)
	}
	if got := (Decision{Verdict: Accepted}).WaitsFor(&Flow{}); got != nil {
		t.Errorf("what is decided waits for %v", got)
	}
}
