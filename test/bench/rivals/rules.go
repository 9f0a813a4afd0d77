// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// protocol is what a flow speaks, and what rules are about.
type protocol int

const (
	speaksTLS protocol = iota
	speaksDNS
	speaksHTTP
	protocols
)

// ruled is what the n-th rule is about.
func ruled(n int) protocol { return protocol(n % int(protocols)) }

// refusedName is what the n-th rule refuses, and what no other name looks like.
func refusedName(n int) string { return fmt.Sprintf("n%d.blocked.example", n) }

func ruleName(n int) string { return fmt.Sprintf("r%d", n) }

// ownRules returns so many rules of nsqueue. What no rule refuses is accepted, and settles
// nothing: there is no kernel that would take it over.
func ownRules(number int) string {
	var b strings.Builder
	b.WriteString("apiVersion: nsqueue.io/v1alpha1\nkind: RuleSet\nmetadata: {name: rivals}\n" +
		"spec:\n  default: accept\n  rules:\n")
	for n := range number {
		when := [...]string{
			speaksTLS: "tls.sni == %q", speaksDNS: "dns.name == %q && !dns.response",
			speaksHTTP: "http.host == %q",
		}[ruled(n)]
		fmt.Fprintf(&b, "  - {name: %s, when: '"+when+"', action: reject}\n", ruleName(n),
			refusedName(n))
	}
	return b.String()
}

// firstSignature is the number of the first rule of Suricata.
const firstSignature = 1_000_000

// suricataRules returns the same rules for Suricata.
func suricataRules(number int) string {
	var b strings.Builder
	for n := range number {
		protocol := [...]string{
			speaksTLS: "tls", speaksDNS: "dns", speaksHTTP: "http",
		}[ruled(n)]
		buffer := [...]string{
			speaksTLS: "tls.sni", speaksDNS: "dns.query", speaksHTTP: "http.host",
		}[ruled(n)]
		fmt.Fprintf(&b, "alert %s any any -> any any (%s; content:%q; startswith; endswith; "+
			"msg:%q; sid:%d; rev:1;)\n", protocol, buffer, refusedName(n), ruleName(n),
			firstSignature+n)
	}
	return b.String()
}
