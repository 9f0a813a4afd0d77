// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"sigs.k8s.io/yaml"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// evil is what a pod could call something: it clears the screen, sets the title,
// turns the text around, and begins lines of its own.
const evil = "e\x1b[2J\x1b]0;t\x07\u009b31m\x7f\u202e\u2066\u200b\U000e0001\r\nok       hook"

// hostile is a daemon all of whose names and texts are evil.
func hostile() *apitest.Daemon {
	key := api.Key{ContainerID: "0fd31c8e5a2b" + evil, Ifname: evil}
	pod := api.Pod{Namespace: evil, Name: evil, UID: evil}
	a := api.Attachment{
		Key: key, Network: evil, Origin: evil, Pod: pod, Netns: api.Netns{Path: evil}, Hook: evil,
		State: evil, FailurePolicy: evil, Queues: []api.Queue{{}},
		Warnings: []string{evil}, Annotations: map[string]string{evil: evil},
	}
	e := api.Event{Time: testNow(), Kind: evil, Key: key, Pod: pod, Message: evil}
	d := longest()
	d.Attachments, d.Happened = []api.Attachment{a}, []api.Event{e}
	d.Described = []api.Description{{Attachment: a, Problem: evil, Events: d.Happened}}
	d.Info = api.Status{
		Version: evil, StateDir: evil, FailurePolicy: evil,
		Supervisor: api.Supervisor{Kind: evil, Handover: &api.Handover{
			Role: evil, Instance: evil,
			Peers:       []api.HandoverPeer{{Role: evil, Version: evil, Instance: evil}},
			LastRefusal: &api.HandoverRefusal{Version: evil, Instance: evil, Reason: evil},
		}},
		Hook: api.HookStatus{
			Kind: evil, Detail: evil, Reason: evil, Flaws: []api.Flaw{{What: evil, Remedy: evil}},
		},
		Problems: []api.Problem{{Key: key, Pod: pod, FailurePolicy: evil, Message: evil}},
	}
	d.Found = []api.AdoptResult{{
		Key: key, Pod: pod, Network: evil, Netns: a.Netns, Outcome: evil, Reason: evil,
	}}
	d.Marked = api.MarkReport{
		Uses: []api.MarkUse{{Key: key, Pod: pod, Where: evil}}, Unreadable: []string{evil},
	}
	d.Ruled = api.Rules{
		Directory: evil, Files: []string{evil},
		Errors: []api.RuleError{{File: evil, Message: evil}},
		Sets: []api.RuleSet{{
			Name: evil, Mode: evil, File: evil, Rules: []api.Rule{{Name: evil, Action: evil}},
		}},
	}
	d.RuledBy = []api.EffectiveRule{{Set: evil, Rule: evil, Action: evil, Mode: evil, When: evil}}
	d.Named = api.ObservedNames{Names: []api.ObservedName{
		{Namespace: evil, Pod: evil, App: "tls", Name: evil, Verdict: "accept"},
		{Namespace: evil, Pod: evil, App: "tls", Name: "a.example", Verdict: "accept"},
	}}
	d.Packets = []api.PacketEvent{{
		Packet: 1, Key: key, Pod: pod, Direction: evil, Protocol: evil, Verdict: evil,
	}}
	return d
}

// hostileCalls are the arguments of each command that meets a hostile daemon.
func hostileCalls(t *testing.T) map[string][][]string {
	conf := filepath.Join(t.TempDir(), strings.ReplaceAll(evil, "\n", ""))
	if err := os.Mkdir(conf, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(conf, "10-"+strings.ReplaceAll(evil, "\n", "")+".conflist"),
		`{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"bridge"`+evil+`}]}`)
	place := []string{"--conf-dir", conf, "--bin-dir", conf}
	call := func(args ...string) [][]string { return [][]string{args} }
	return map[string][][]string{
		"adopt":       {{}, {"--dry-run"}},
		"attach":      call("--netns", "/proc/self/ns/net", "--container-id", "a", "--ifname", "\x1b[2J"),
		"await-nodes": call(evil),
		// What it writes to a pipe is no text.
		"capture":  call("-w", filepath.Join(t.TempDir(), "c"), "--count", "1"),
		"describe": {{evil + "/" + evil}, {"0fd31c8e5a2b"}, {evil}},
		"detach":   {{"0fd31c8e5a2b" + evil + "/" + evil}, {evil}},
		"doctor":   call(place...),
		"events":   {{}},
		// Both end with an error about the file.
		"install":   call(append(place, "--dry-run")...),
		"uninstall": call(append(place, "--dry-run")...),
		"list":      {{}, {"-n", evil}},
		"log-level": {{"debug"}, {evil}},
		"ready":     {{}, {"--runtime-dir", supervisorSays(t, hostileState(t))}},
		"rules": {
			{"list"},
			{"reload"},
			{"suggest"},
			{"suggest", "-n", evil},
			{"check", file(t, "a.yaml", "metadata: "+evil)},
			{"check", evil},
			{"test", "--pcap", hostileCapture(t), captures + "rules.yaml"},
			{"test", "--pcap", hostileCapture(t), "--pod", evil + "/" + evil, captures + "rules.yaml"},
			{"try", "--pod", evil + "/" + evil, "--out", "192.0.2.1:443", "--sni", evil + ".blocked.example", captures + "rules.yaml"},
		},
		"stats":   call("--once", "--interval", "1ms"),
		"status":  {{}},
		"ui":      {{"--listen", "127.0.0.1:70000"}, {"--listen", evil}, {evil}},
		"upgrade": call("--timeout", "1ms"),
		"version": {{}, {evil}},
		"watch":   call("--count", "1"),
	}
}

// hostileState is what a supervisor says of itself.
func hostileState(t *testing.T) string {
	t.Helper()
	b, err := json.Marshal(api.SupervisorState{Version: evil, Role: evil})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Nothing that others have written does more to a terminal than be shown, whatever
// the command and its output.
func TestNothingIsCarriedOut(t *testing.T) {
	calls := hostileCalls(t)
	s := &IOStreams{getenv: func(string) string { return "" }}
	for _, cmd := range newRoot(s).Commands() {
		if calls[cmd.Name()] == nil && cmd.Name() != "completion" && cmd.Name() != "help" {
			t.Errorf("there is no call of %s here", cmd.Name())
		}
	}
	for _, failing := range []bool{false, true} {
		d := hostile()
		if failing {
			d.Err = func(string) error { return &api.Error{Code: 1, Msg: evil, Details: evil} }
		}
		socket := d.Start(t)
		for name, list := range calls {
			for _, args := range list {
				for _, output := range text.Formats() {
					all := append([]string{name}, args...)
					if name != "version" {
						all = append(all, "-o", output)
					}
					o := nsqueuectl(t.Context(), socket, all...)
					if o.stdout+o.err == "" {
						t.Errorf("%q prints nothing", all)
					}
					onlyShown(t, all, o)
				}
			}
		}
	}
}

// onlyShown checks what a command has printed.
func onlyShown(t *testing.T, args []string, o outcome) {
	t.Helper()
	for _, text := range []string{o.stdout, o.err} {
		bad := strings.IndexFunc(text, func(r rune) bool {
			return r != '\n' && r != '\t' && !unicode.IsPrint(r)
		})
		if bad >= 0 {
			t.Errorf("%q prints %q", args, text[max(0, bad-20):min(bad+20, len(text))])
		}
	}
	if strings.Contains(o.stdout, "\nok       hook") && args[0] != "doctor" {
		t.Errorf("%q: a name begins a line:\n%s", args, o.stdout)
	}
}

// What programs read has the names as they are.
func TestHostileNamesStay(t *testing.T) {
	d := hostile()
	socket := d.Start(t)
	for _, line := range []string{"list -o json", "list -o yaml", "watch --count 1 -o json"} {
		o := nsqueuectl(t.Context(), socket, strings.Fields(line)...)
		var got struct {
			api.AttachmentList
			Pod api.Pod
		}
		parse := json.Unmarshal
		if strings.HasSuffix(line, "yaml") {
			parse = func(b []byte, into any) error { return yaml.Unmarshal(b, into) }
		}
		err := parse([]byte(o.stdout), &got)
		if len(got.Attachments) > 0 {
			got.Pod = got.Attachments[0].Pod
		}
		if err != nil || got.Pod.Name != evil {
			t.Errorf("%s: pod %q, %v:\n%s", line, got.Pod.Name, err, o.stdout)
		}
	}
}

// Completion offers no name that cannot be typed.
func TestHostileNamesAreNotOffered(t *testing.T) {
	d := hostile()
	d.Attachments = append(d.Attachments, attachments()...)
	o := nsqueuectl(t.Context(), d.Start(t), "__complete", "describe", "")
	onlyShown(t, []string{"complete"}, o)
	if strings.Contains(o.stdout, "31m") || !strings.Contains(o.stdout, "default/busybox1") {
		t.Errorf("offered:\n%s", o.stdout)
	}
}

// The program's own sequences reach the terminal, those in names do not.
func TestTerminalIsCleared(t *testing.T) {
	d := hostile()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &stopWriter{word: "CONTAINER ID", times: 2, stop: cancel}
	s := &IOStreams{
		out: out, err: &strings.Builder{}, now: testNow, width: func() int { return 80 },
		height: func() int { return 24 }, getenv: func(string) string { return "" },
	}
	status := execute(ctx, s, []string{"list", "--watch", "--socket", d.Start(t)})
	got := out.String()
	if status != 0 || strings.Count(got, "\x1b") != 2*strings.Count(got, text.ClearScreen) ||
		!strings.HasPrefix(got, text.ClearScreen) || !strings.Contains(got, `\x1b[2J`) {
		t.Errorf("status %d: %q", status, got)
	}
}
