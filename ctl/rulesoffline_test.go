// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/ctl/internal/pcapng"
	"github.com/nsqueue/nsqueue/ctl/internal/trial"
)

// captures is where captures are, and rules for them.
const captures = "internal/trial/testdata/"

// offline runs a command line without a daemon.
func offline(t *testing.T, line string) outcome {
	t.Helper()
	line = strings.ReplaceAll(line, "CAPTURES/", captures)
	return nsqueuectl(t.Context(), "/nowhere", append([]string{"rules"}, strings.Fields(line)...)...)
}

// file writes a file and returns its path.
func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	write(t, path, content)
	return path
}

const brokenRules = `apiVersion: nsqueue.io/v1alpha1
kind: RuleSet
metadata: {name: broken}
spec:
  rules:
  - name: a
    when: server.prt == 1
    action: reject
`

func TestRulesCheck(t *testing.T) {
	offline(t, "check CAPTURES/rules.yaml").want(t, 0, "2 sets with 2 rules are right\n", "")
	offline(t, "check CAPTURES/").want(t, 0, "2 sets with 2 rules are right\n", "")
	offline(t, "check /no/file").want(t, 2, "",
		"nsqueuectl: read rules: open /no/file: no such file or directory\n")

	broken := file(t, "broken.yaml", brokenRules)
	o := offline(t, "check "+broken)
	if o.status != 1 || o.err != "nsqueuectl: 1 error\n" ||
		!strings.HasPrefix(o.stdout, broken+":7:") {
		t.Errorf("%+v", o)
	}
	o = offline(t, "check -o json "+broken)
	var got checked
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil || o.status != 1 {
		t.Fatalf("%+v: %v", o, err)
	}
	if len(got.Errors) != 1 || got.Errors[0].Line != 7 || got.Errors[0].Message == "" {
		t.Errorf("errors: %+v", got.Errors)
	}
	o = offline(t, "check -o yaml CAPTURES/rules.yaml")
	want := `errors: []
files:
- internal/trial/testdata/rules.yaml
sets:
- file: internal/trial/testdata/rules.yaml
  line: 1
  name: blocked
  rules: 1
- file: internal/trial/testdata/rules.yaml
  line: 15
  name: sandbox
  rules: 1
`
	o.want(t, 0, want, "")
}

const testedMessages = `
CLIENT          SERVER          PROTOCOL  APP  NAME                           VERDICT  RULE           PACKET  ERROR
10.0.0.1:40002  203.0.113.5:53  udp       dns  www.blocked.example A          reject   blocked/names  1       -
10.0.0.1:40002  203.0.113.5:53  udp       dns  www.blocked.example A, answer  reject   blocked/names  2       -
`

const testedEffects = `
CLIENT          SERVER           PROTOCOL  APP  NAME                 VERDICT  RULE     PACKET  ERROR  ALSO
10.0.0.1:40000  203.0.113.5:443  tcp       tls  www.allowed.example  accept   default  4       -      would log: sandbox/web, would drop: sandbox/default
`

func TestRulesTest(t *testing.T) {
	const rules = " CAPTURES/rules.yaml"
	offline(t, "test --pcap CAPTURES/dns01_udp.pcap"+rules).want(t, 0, testedMessages[1:], "")
	control := "test --pcap CAPTURES/control_tls.pcap --pod agents/a1"
	offline(t, control+rules).want(t, 0, testedEffects[1:], "")
	offline(t, "test --pcap CAPTURES/control_tls.pcap --pod-ip 10.0.0.9"+rules).
		want(t, 0, "", "No flows.\n9 packets neither from nor to the pod\n")
	o := offline(t, control+" --annotation nsqueue.io/profile=free"+rules)
	if o.status != 0 || strings.Contains(o.stdout, "would") {
		t.Errorf("%+v", o)
	}
	golden, err := os.ReadFile(captures + "control_tls.json")
	if err != nil {
		t.Fatal(err)
	}
	o = offline(t, control+" -o json"+rules)
	if diff := cmp.Diff(string(golden), o.stdout); diff != "" || o.status != 0 {
		t.Errorf("%+v (-want +got):\n%s", o, diff)
	}
	o = offline(t, control+" -o yaml"+rules)
	recorded := file(t, "recorded.yaml", o.stdout)
	offline(t, control+" --expect "+recorded+rules).want(t, 0, testedEffects[1:], "")
}

func TestRulesTestFails(t *testing.T) {
	const rules = " CAPTURES/rules.yaml"
	const control = "test --pcap CAPTURES/control_tls.pcap --pod agents/a1"
	unmet := file(t, "unmet.yaml", "flows: [{name: www.allowed.example, verdict: reject}]")
	offline(t, control+" --expect "+unmet+rules).want(t, 1, testedEffects[1:]+
		"not met: flows[0]: 10.0.0.1:40000 to 203.0.113.5:443: verdict is accept, want reject\n",
		"nsqueuectl: "+unmet+": 1 expectation not met\n")
	o := offline(t, control+" -o json --expect "+unmet+rules)
	var report trial.Report
	err := json.Unmarshal([]byte(o.stdout), &report)
	if err != nil || o.status != 1 || len(report.Unmet) != 1 {
		t.Errorf("%+v: %v", o, err)
	}
	for line, message := range map[string]string{
		"test --pcap /no/file" + rules:                                 "read capture: open /no/file: no such file",
		control + " --expect /no/file" + rules:                         "read expectation /no/file: open /no/file:",
		control + " --expect " + file(t, "e.yaml", "flow: []") + rules: "read expectation ",
		"test --pcap CAPTURES/rules.yaml" + rules:                      "read capture ",
		control + " " + file(t, "broken.yaml", brokenRules):            "the rules are wrong:\n",
		control + " /no/file":                                          "read rules: open /no/file:",
		"test --pcap " + file(t, "cut.pcap", cut(t)) + rules:           "read capture ",
	} {
		o := offline(t, line)
		if o.status != 2 || o.stdout != "" || !strings.HasPrefix(o.err, "nsqueuectl: "+message) {
			t.Errorf("%s: %+v", line, o)
		}
	}
}

// cut is a capture that ends in the middle of a packet.
func cut(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(captures + "control_tls.pcap")
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:len(b)-3])
}

func TestRulesTry(t *testing.T) {
	const rules = " CAPTURES/rules.yaml"
	const refused = `
Verdict:  reject
Rule:     blocked/names
Where:    internal/trial/testdata/rules.yaml:7
Because:  domain(tls.sni).matches("*.blocked.example") ||
          domain(dns.name).matches("*.blocked.example") ||
          domain(http.host).matches("*.blocked.example")
Message:  pod shop asks for x.blocked.example
`
	const pod = "try --pod web/shop --out 203.0.113.5:443"
	offline(t, pod+" --sni x.blocked.example"+rules).
		want(t, 1, refused[1:], "nsqueuectl: refused by blocked/names\n")
	offline(t, pod+" --protocol udp --sni x.blocked.example"+rules).
		want(t, 1, refused[1:], "nsqueuectl: refused by blocked/names\n")
	offline(t, pod+" --sni example.org"+rules).
		want(t, 0, "Verdict:  accept\nBecause:  no rule refuses it\n", "")
	o := offline(t, pod+rules)
	if o.status != 2 || !strings.HasPrefix(o.stdout, "Verdict:    undecided\n") ||
		!strings.HasPrefix(o.err, "nsqueuectl: blocked/names asks for tls.sni and dns.name and ") {
		t.Errorf("%+v", o)
	}
	offline(t, "try --pod agents/a1 --in 8080 --from 192.0.2.1 --app ssh -o json"+rules).want(t, 0, `
{
  "verdict": "accept",
  "ruleSet": "",
  "rule": "default",
  "effects": [
    {
      "ruleSet": "sandbox",
      "rule": "default",
      "action": "drop",
      "audit": true
    }
  ],
  "sets": 2
}
`[1:], "")
	for line, status := range map[string]int{
		pod + " --dns x.blocked.example":                       1,
		pod + " --dns example.org --dns-type aaaa":             0,
		pod + " --host x.blocked.example --path /a?b":          1,
		pod + " --host example.org":                            0,
		pod + " --app none":                                    0,
		"try --pod web/shop --out 203.0.113.5 --protocol icmp": 0,
		"try --pod web/shop --out [2001:db8::1]:443 --sni a":   0,
	} {
		if o := offline(t, line+rules); o.status != status || o.stdout == "" {
			t.Errorf("%s: %+v", line, o)
		}
	}
}

func TestRulesUsage(t *testing.T) {
	const rules = " CAPTURES/rules.yaml"
	for line, message := range map[string]string{
		"check":                                          "requires at least 1 arg(s), only received 0",
		"test" + rules:                                   `required flag(s) "pcap" not set`,
		"test --pcap x --pod a" + rules:                  `pod "a": want NAMESPACE/NAME`,
		"test --pcap x --pod-ip a" + rules:               `pod-ip "a": want an IP address`,
		"test --pcap x --annotation a" + rules:           `annotation "a": want KEY=VALUE`,
		"test --pcap x --label =a" + rules:               `label "=a": want KEY=VALUE`,
		"try --pod a/b" + rules:                          "at least one of the flags in the group [out in] is required",
		"try --out 192.0.2.1:1" + rules:                  `required flag(s) "pod" not set`,
		"try --pod a/b --out 192.0.2.1" + rules:          `address "192.0.2.1": want ADDRESS:PORT`,
		"try --pod a/b --in 1 --from x" + rules:          `address "x": want an IP address`,
		"try --pod a/b --in 1 --pod-ip x" + rules:        `address "x": want an IP address`,
		"try --pod a/b --in 1 --app x" + rules:           `app "x": want one of [tls quic http h2 dns ssh unknown none]`,
		"try --pod a/b --in 1 --app ssh --sni a" + rules: "app ssh has no such name: want tls",
		"try --pod a/b --in 1 --dns a --sni a" + rules:   "if any flags in the group [sni dns host] are set none of the others can be; [dns sni] were all set",

		"frobnicate": `unknown command "frobnicate" for "nsqueuectl rules"`,
	} {
		o := offline(t, line)
		if o.status != 2 || o.stdout != "" || !strings.HasPrefix(o.err, "nsqueuectl: "+message+"\n") {
			t.Errorf("%s: %+v", line, o)
		}
	}
}

// hostileCapture is a question of DNS for a name that a terminal would carry out.
func hostileCapture(t *testing.T) string {
	t.Helper()
	label := "a\x1b[2J\nb\x7f"
	question := "\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + string(rune(len(label))) + label +
		"\x07blocked\x07example\x00\x00\x01\x00\x01"
	udp := "\x13\x88\x00\x35\x00" + string(rune(8+len(question))) + "\x00\x00" + question
	ip := "\x45\x00\x00" + string(rune(20+len(udp))) + "\x00\x07\x00\x00\x40\x11\x00\x00" +
		"\x0a\x00\x00\x01\x0a\x00\x00\x02" + udp
	var b bytes.Buffer
	w, err := pcapng.NewWriter(&b, "nsqueuectl")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.AddInterface(pcapng.Interface{Name: evil, SnapLen: 1500}); err != nil {
		t.Fatal(err)
	}
	if err := w.WritePacket(&pcapng.Packet{Data: []byte(ip), Length: len(ip)}); err != nil {
		t.Fatal(err)
	}
	return file(t, "hostile.pcapng", b.String())
}

// A name in a packet is shown, and does nothing more.
func TestRulesTestHostile(t *testing.T) {
	capture := hostileCapture(t)
	o := offline(t, "test --pcap "+capture+" CAPTURES/rules.yaml")
	onlyShown(t, []string{"rules"}, o)
	if o.status != 0 || !strings.Contains(o.stdout, `a\027[2j\010b\127.blocked.example A `) {
		t.Errorf("%+v", o)
	}
	var report trial.Report
	o = offline(t, "test -o json --pcap "+capture+" CAPTURES/rules.yaml")
	if err := json.Unmarshal([]byte(o.stdout), &report); err != nil ||
		report.Flows[0].Name != `a\027[2j\010b\127.blocked.example` {
		t.Errorf("%+v: %v", o, err)
	}
}

// Rules may ask for labels, unless a node is meant that has no source of them.
func TestRulesLabels(t *testing.T) {
	rules := " " + file(t, "labels.yaml", `apiVersion: nsqueue.io/v1alpha1
kind: RuleSet
metadata: {name: guests}
spec:
  pods: {when: 'pod.labels["team"] == "guests"'}
  default: reject
`)
	offline(t, "check"+rules).want(t, 0, "1 set with 0 rules are right\n", "")
	if o := offline(t, "check --no-labels"+rules); o.status != 1 ||
		!strings.Contains(o.stdout, "labels.yaml:5:20: pod.labels is not known here") {
		t.Errorf("%+v", o)
	}
	const out = "try --pod a/b --out 192.0.2.1:80"
	for label, status := range map[string]int{
		"": 0, " --label team=hosts": 0, " --label team=guests": 1, " --label a=b --label team=guests": 1,
	} {
		if o := offline(t, out+label+rules); o.status != status {
			t.Errorf("%s: %+v", label, o)
		}
	}
}
