// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The names that rules are asked about.
const (
	allowedName = "packages.example.org"
	refusedName = "refused.blocked.example"
)

const ruleSetHead = `apiVersion: nsqueue.io/v1alpha1
kind: RuleSet
metadata: {name: bench}
spec:
  default: accept
  sets:
    registries: {domains: [packages.example.org, "*.mirror.example.net"]}
    metadata: {cidrs: [169.254.169.254/32, "fd00:ec2::254/128"]}
  rules:
  - {name: metadata, when: sets.metadata.contains(server.ip), action: reject}
  - {name: ssh, when: server.port == 22, action: reject}
  - {name: refused, when: tls.sni.endsWith(".blocked.example"), action: reject}
  - {name: smtp, when: 'flow.direction == "out" && server.port in [25, 465, 587]', action: drop}
  - {name: old, when: 'app.protocol == "tls" && tls.version == "1.0"', action: reject}
`

// rulesOf returns a set of rules. Those that are added to the first five and the last two
// are for names that nobody asks for.
func rulesOf(number int, settle bool) string {
	var b strings.Builder
	b.WriteString(ruleSetHead)
	for i := range number - 7 {
		fmt.Fprintf(&b, "  - {name: name%d, when: 'server.port in [80, 443] && "+
			"tls.sni == \"n%d.example\"', action: accept}\n", i, i)
	}
	fmt.Fprintf(&b, "  - {name: registries, when: sets.registries.contains(tls.sni), "+
		"action: accept, settle: %t}\n", settle)
	fmt.Fprintf(&b, "  - {name: rest, when: 'true', action: accept, settle: %t}\n", settle)
	return b.String()
}

// queryRules returns a set of rules for names of queries.
func queryRules(number int) string {
	head, _, _ := strings.Cut(ruleSetHead, "  - ")
	var b strings.Builder
	b.WriteString(head)
	for i := range number {
		fmt.Fprintf(&b, "  - {name: name%d, when: 'app.protocol == \"dns\" && "+
			"dns.name == \"n%d.example\"', action: reject}\n", i, i)
	}
	return b.String()
}

// writeRules makes a directory for rules.
func writeRules(name, text string) (string, error) {
	dir := filepath.Join("/run/bench/rules", name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return dir, replaceRules(dir, text)
}

// replaceRules leaves no moment at which half of the rules are there.
func replaceRules(dir, text string) error {
	file := filepath.Join(dir, "bench.yaml")
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
