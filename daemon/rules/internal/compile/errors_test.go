// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// What is wrong with a set is told with its place and with what would be right.
func TestErrors(t *testing.T) {
	rule := func(when string) string { return one(when) } // the condition is in line 9, from column 11
	for _, c := range []struct{ text, at, hint string }{
		{rule(`server.port / 2 == 1`), "9:23", "/ is not admitted"},
		{rule(`server.port + 2 == 1`), "9:23", "+ joins the texts"},
		{rule(`tls.alpn[0] == "h2"`), "9:19", "exists and all"},
		{rule(`string(server.port) == "1"`), "9:17", "string() is not admitted"},
		{rule(`has(tls.sni)`), "9:11", "has is not needed"},
		{rule(`server.names.map(n, n) == []`), "9:24", "there are exists and all"},
		{rule(`server.names.filter(n, true) == []`), "9:24", "there are exists and all"},
		{rule(`tls.snl == "x"`), "9:11", "alpn, ech, ja4, sni"},
		{rule(`tls.sni.lower() == "x"`), "9:19", "lower is not admitted"},
		{rule(`tls == "x"`), "9:11", "no value itself: it has alpn"},
		{rule(`sni == "x"`), "9:11", "there are app, client"},
		{rule(`server.port == "443"`), "9:23", "no matching overload"},
		{rule(`server.port`), "9:11", "true or false"},
		{rule(`tls.sni.matches(dns.name)`), "9:26", "literal"},
		{rule(`tls.sni.matches("(")`), "9:26", "missing closing"},
		{rule(`domain(tls.sni).matches("a.*")`), "9:34", "only at the start"},
		{rule(`server.ip == ip("300.1.1.1")`), "9:27", `ip("192.0.2.1")`},
		{rule(`cidr("10.0.0.1/8").containsIP(server.ip)`), "9:15", "write 10.0.0.0/8"},
		{rule(`sets.nets.contains(tls.sni)`), "9:29", "no matching overload"},
		{rule(`sets.none.contains(tls.sni)`), "9:11", "it has names, nets"},
		{rule(`server.port ==`), "9:25", "Syntax error"},
		{rule(`1.5 < 2.5`), "9:11", "whole number"},
		{rule(`pod.annotations["a"] == "b"`), "9:11", "trustAnnotations"},
		{rule(`"tls.sni == 'x' && server.port / 2 == 1"`), "9:42", "/ is not"},
		{rule("tls.sni == 'x'\n      && server.port / 2 == 1"), "10:22", "/ is not"},
		{rule("|\n      tls.sni == 'x' &&\n        server.port / 2 == 1"), "11:21", "/ is not"},
		{rule(`'tls.sni == "it''s" && server.port / 2 == 1'`), "9:46", "/ is not"},
		{set("s", "rule: []"), "5:3", "it has priority, mode"},
		{set("nsqueue", "rules: []"), "3:18", "name the set otherwise"},
		{set("s", "priority: high"), "5:13", "a number from 0"},
		{set("s", "mode: audit"), "5:9", "one of Enforce, Audit"},
		{set("s", "default: log"), "5:12", "one of accept, drop, reject, next"},
		{set("s", "mode: Audit", "mode: Audit"), "6:3", "twice"},
		{set("s", "pods: {namespaces: [Team]}"), "5:23", "team-*"},
		{set("s", "pods: {namespaces: []}"), "5:22", "is empty"},
		{set("s", "pods: {when: server.port == 1}"), "5:16", "pod.* only"},
		{set("s", "sets: {a-b: {domains: []}}"), "5:10", "digits and _"},
		{set("s", "sets: {a: {domains: [x], cidrs: [10.0.0.0/8]}}"), "5:10", "either"},
		{set("s", "sets: {a: {domains: [x y]}}"), "5:24", "letters, digits"},
		{set("s", "sets: {a: {domainsFile: /none}}"), "5:27", "no such file"},
		{set("s", "variables: [{name: a, expression: variables.b}, {name: b, expression: 'true'}]"), "5:37", "variables"},
		{set("s", "rules: [{name: a, when: 'true'}]"), "5:11", "needs the field action"},
		{set("s", "rules: [{name: default, when: 'true', action: log}]"), "5:11", "otherwise"},
		{set("s", "rules: [{name: a, when: 'true', action: mark}]"), "5:11", "0x10/0xf0"},
		{set("s", "rules: [{name: a, when: 'true', action: mark, mark: 0xff/0xf0}]"), "5:55", "covers"},
		{set("s", "rules: [{name: a, when: 'true', action: log, message: hello world}]"), "5:63", "between quotes"},
		{set("s", "rules: [&a {name: a, when: 'true', action: log}, *a]"), "5:52", "alias"},
		{set("s", "x: ["), "5:1", "no YAML"},
		{"apiVersion: v1\nkind: RuleSet\nmetadata: {name: a}\nspec: {}", "1:13", "nsqueue.io/v1alpha1"},
		{"- a", "1:1", "fields, as in name: value"},
		{"kind: RuleSet", "1:1", "needs the field apiVersion"},
	} {
		_, err := compileTexts(c.text)
		if err == nil || !strings.HasPrefix(err.Error(), "a.yaml:"+c.at+": ") || !strings.Contains(err.Error(), c.hint) {
			t.Errorf("%s\n  is told as %v\n  want %s with %q", c.text, err, c.at, c.hint)
		}
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	program, err := compileTexts(one("server.port / 2 == 1 && tls.alpn[0] == 'x'"), set("s", "priority: 1"), set("t", "mode: x"))
	var errs Errors
	if program != nil || !errors.As(err, &errs) || len(errs) != 4 {
		t.Fatalf("%v", err)
	}
	for i, want := range []string{"a.yaml:9:23", "a.yaml:9:43", "b.yaml:3:18", "c.yaml:5:9"} {
		if !strings.HasPrefix(errs[i].Error(), want) {
			t.Errorf("error %d is %v, want it at %s", i, errs[i], want)
		}
	}
}

func TestDocuments(t *testing.T) {
	program := mustCompile(t, "---\n"+set("b", "priority: 5")+"---\n---\n"+set("a", "priority: 5")+"---\n"+set("c", "priority: 1"))
	var names string
	for _, set := range program.Sets {
		names += set.Name
	}
	if names != "cab" {
		t.Errorf("the order is %s", names)
	}
	_, err := compileTexts("---\n" + set("b", "priority: 1") + "---\n" + set("c", "mode: x"))
	if err == nil || !strings.HasPrefix(err.Error(), "a.yaml:12:9: ") {
		t.Errorf("%v", err)
	}
}

// Variables that double each other are refused before they cost anything.
func TestCost(t *testing.T) {
	lines := []string{"variables:", "- {name: v0, expression: server.port == 1}"}
	for i := range 40 {
		lines = append(lines, fmt.Sprintf("- {name: v%d, expression: variables.v%d && variables.v%d}", i+1, i, i))
	}
	lines = append(lines, "rules: [{name: r, when: variables.v40, action: drop}]")
	_, err := compileTexts(set("s", lines...))
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != 1 || !strings.Contains(errs[0].Text, "more than 10000 parts") {
		t.Errorf("%v", err)
	}
}

func TestLabelsNeedASource(t *testing.T) {
	text := set("s", "pods: {when: pod.labels.app == 'x'}")
	if _, err := Compile([]File{{Name: "x", Data: []byte(text)}}, Options{}); err == nil ||
		!strings.Contains(err.Error(), "pod.labels is not known here") ||
		!strings.Contains(err.Error(), "pod.annotations") {
		t.Errorf("%v", err)
	}
}

func FuzzCompile(f *testing.F) {
	f.Add([]byte(sandboxes))
	f.Add([]byte(one(`tls.sni.matches("(") || [[1]] == [] || {} == {} || 1u < 2u`)))
	f.Add([]byte(one(`"x" in [[]] || [].exists(n, n == 1) || [].all(n, n && sets.nets.contains(n))`)))
	f.Add([]byte("a: &a [*a]\n---\n? [x]\n: \xff"))
	flow := tlsFlow(sandbox(), "x")
	f.Fuzz(func(_ *testing.T, data []byte) {
		program, err := Compile([]File{{Name: "f", Data: data}}, Options{Labels: true})
		if err != nil {
			_ = err.Error()
			return
		}
		var p Progress
		list := program.Fold(flow.Pod)
		list.Decide(flow, &p)
		list.Final(flow, Message)
	})
}
