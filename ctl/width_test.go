// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// longest is a daemon with names, numbers and texts that are as long as they
// get.
func longest() *apitest.Daemon {
	const most = 1<<63 - 1
	a := attachments()[0]
	a.ContainerID = strings.Repeat("0fd31c8e5a2b77aa", 4)
	a.Ifname = "interface012345"
	a.Pod = api.Pod{
		Namespace: strings.Repeat("n", 63), Name: strings.Repeat("p", 240) + "-7d4b9c6f8-x2x4z",
	}
	a.Netns.Path = "/var/run/netns/cni-6f0f1d1a-0e1b-4c4a-9f10-8a1d5a0b7c11"
	a.Counters = api.Counters{Packets: 1e12, Bytes: most, Dropped: 1e9}
	event := api.Event{
		Time: testNow(), Kind: api.EventLostDetach, Key: a.Key, Pod: a.Pod,
		Message: strings.Repeat("the pod disappeared without a DEL ", 6),
	}
	return &apitest.Daemon{
		Attachments: []api.Attachment{a}, Happened: []api.Event{event},
		Described: []api.Description{{
			Attachment: a, Events: []api.Event{event}, Problem: event.Message,
			QueueStates: []api.QueueState{{
				Queue: api.Queue{Number: 65535, Length: 65536}, Bound: true, Waiting: 65536,
				QueueDropped: 1e9, UserDropped: 1e9,
			}},
		}},
		Info: api.Status{Problems: []api.Problem{{Key: a.Key, Message: event.Message}}},
		Found: []api.AdoptResult{{
			Key: a.Key, Pod: a.Pod, Network: "cbr0", Netns: a.Netns, Outcome: api.AdoptSkipped,
			Reason: event.Message,
		}},
	}
}

// No line is longer than the terminal, whatever the names; a pipe gets them
// whole, without anything for terminals.
func TestWidths(t *testing.T) {
	d := longest()
	pod := d.Attachments[0].Pod.String()
	socket := d.Start(t)
	for line, told := range map[string]string{
		"list": pod, "events": pod, "adopt --dry-run": pod,
		"stats --once --interval 100ms": pod,
		"status":                        "disappeared without a DEL",
	} {
		for _, width := range []int{0, 80, 200} {
			var out, errs strings.Builder
			s := &IOStreams{
				out: &out, err: &errs, now: testNow, progressAfter: callTimeout,
				width:  func() int { return width },
				getenv: func(string) string { return "" },
			}
			args := append(strings.Fields(line), "--socket", socket)
			if status := execute(t.Context(), s, args); status != 0 {
				t.Fatalf("%s: status %d: %s", line, status, errs.String())
			}
			got := out.String()
			if strings.Contains(got, "\x1b") || !utf8.ValidString(got) {
				t.Errorf("%s, %d columns: %q", line, width, got)
			}
			if width == 0 && !strings.Contains(got, told) {
				t.Errorf("%s: a pipe does not get %q:\n%s", line, told, got)
			}
			for text := range strings.Lines(got) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(text, "\n")); width > 0 && n > width {
					t.Errorf("%s: %d columns, want at most %d:\n%s", line, n, width, got)
					break
				}
			}
		}
	}
}
