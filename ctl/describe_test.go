// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// described are attachments with all that is known of them.
func described() []api.Description {
	list := attachments()
	list[1].Pod = list[0].Pod
	list[1].Annotations = map[string]string{
		"nsqueue.io/profile": "sand\nbox", "long": strings.Repeat("é", 200),
	}
	return []api.Description{
		{
			Attachment: list[0],
			QueueStates: []api.QueueState{{
				Queue: api.Queue{Number: 80, Length: 4096}, Bound: true, Waiting: 3, QueueDropped: 4,
				UserDropped: 5,
			}},
			Events: []api.Event{{
				Time: testNow().Add(-time.Minute), Kind: api.EventRepair, Key: list[0].Key,
				Message: "repaired: the queue 80 is not bound, which took nsqueued some time to find out",
			}},
		},
		{
			Attachment: list[1], Problem: "queue 80 is taken", Events: []api.Event{},
			QueueStates: []api.QueueState{{Queue: api.Queue{Number: 80}}},
		},
	}
}

const firstDescribed = `
Container ID:    0fd31c8e5a2b77aa01
Interface:       eth0
Pod:             default/busybox1
Pod UID:         u
Network:         cbr0
Origin:          cni
State:           active
Attached:        2026-01-02T02:59:05Z (5m ago)
Netns:           /run/netns/a
Netns cookie:    4097 (inode 4026532000)
Hook:            nft
Failure policy:  Fail: packets that cannot be inspected are dropped
Reader:          inspector ids
Packets:         1234, 99999 bytes
Verdicts:        1230 accepted, 4 dropped, 0 rejected (0 untold), 0 queued
Errors:          0 malformed, 0 panics, 0 overruns, 0 flushed, 0 other
Inspector:       2µs per packet
Settled:         0 flows; the kernel decided 0 packets of them
Problem:         none
Queues:
NUMBER  BOUND  WAITING  LENGTH  DROPPED: QUEUE FULL  BUFFER FULL
80      yes    3        4096    4                    5
Rules:
RULE             ACTION  MODE     WHEN
sandbox/names    accept  Enforce  sets.names.contains(tls.sni)
sandbox/default  reject  Enforce  -
Events:
2026-01-02T03:03:05Z  repair      repaired: the queue 80 is not bound, which
                                  took nsqueued some time to find out
`

// What rules refuse does not push out other events.
func TestDescribeRefusals(t *testing.T) {
	one := described()[0]
	for range 2 * recentEvents {
		one.Events = append(one.Events, refused()[1])
	}
	d := apitest.Daemon{Described: []api.Description{one}}
	d.Attachments = []api.Attachment{one.Attachment}
	o := nsqueuectl(t.Context(), d.Start(t), "describe", "default/busybox1")
	_, events, _ := strings.Cut(o.stdout, "Events:\n")
	events, refusals, _ := strings.Cut(events, "Refused:\n")
	if !strings.Contains(events, "repaired") ||
		strings.Count(refusals, "rejected by web/default") != recentEvents {
		t.Errorf("%+v", o)
	}
}

func TestDescribe(t *testing.T) {
	all := described()
	d := apitest.Daemon{Described: all, RuledBy: []api.EffectiveRule{
		{
			Set: "sandbox", Rule: "names", Action: "accept", Mode: "Enforce",
			When: "sets.names.contains(tls.sni)",
		},
		{Set: "sandbox", Rule: "default", Action: "reject", Mode: "Enforce"},
	}}
	for _, description := range all {
		d.Attachments = append(d.Attachments, description.Attachment)
	}
	socket := d.Start(t)
	nsqueuectl(t.Context(), socket, "describe", "0fd31/eth0").want(t, 0, firstDescribed[1:], "")
	second := `
Container ID:    0fd31c8e5a2b77aa01
Interface:       net1
Pod:             default/busybox1
Pod UID:         u
Network:         -
Origin:
State:           active
Attached:        2025-12-31T01:04:05Z (2d ago)
Netns:           -
Netns cookie:    0 (inode 0)
Hook:            nft
Failure policy:  Ignore: packets that cannot be inspected pass
Reader:          rules
Packets:         0, 0 bytes
Verdicts:        0 accepted, 0 dropped, 0 rejected (0 untold), 0 queued
Errors:          0 malformed, 0 panics, 0 overruns, 0 flushed, 0 other
Inspector:       - per packet
Settled:         0 flows; the kernel decided 0 packets of them
Problem:         queue 80 is taken
Annotation:      long:
                 "` + strings.Repeat("é", 100) + `"...
                 (400 bytes)
Annotation:      nsqueue.io/profile: "sand\nbox"
Queues:
NUMBER  BOUND  WAITING  LENGTH  DROPPED: QUEUE FULL  BUFFER FULL
80      no     0        0       0                    0
Rules:
RULE             ACTION  MODE     WHEN
sandbox/names    accept  Enforce  sets.names.contains(tls.sni)
sandbox/default  reject  Enforce  -
Events:  none
`
	for _, name := range []string{"default/busybox1", "0fd31c8e5a2b77aa01"} {
		nsqueuectl(t.Context(), socket, "describe", name).want(t, 0, firstDescribed[1:]+second, "")
	}
	o := nsqueuectl(t.Context(), socket, "describe", "default/busybox1", "-o", "json")
	var got descriptions
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil || o.status != 0 {
		t.Fatalf("%+v: %v", o, err)
	}
	var want []description
	for _, one := range all {
		want = append(want, description{one, d.RuledBy})
	}
	if diff := cmp.Diff(want, got.Attachments); diff != "" {
		t.Errorf("descriptions (-want +got):\n%s", diff)
	}
	nsqueuectl(t.Context(), socket, "describe", "default/web").want(t, 1, "",
		"nsqueuectl: no attachment matches \"default/web\": see nsqueuectl list\n")
}

func TestDescribeGoneMeanwhile(t *testing.T) {
	d := apitest.Daemon{Attachments: attachments()}
	nsqueuectl(t.Context(), d.Start(t), "describe", "0fd4").want(t, 1, "",
		"nsqueuectl: describe 0fd4/eth0: there is no attachment 0fd4/eth0\n")
}

// A daemon without rules is described without.
func TestDescribeWithoutRules(t *testing.T) {
	d := apitest.Daemon{Described: described()[:1], Attachments: attachments()[:1]}
	d.Err = func(call string) error {
		if call == "rules of" {
			return &api.Error{Code: api.CodeInvalidConfig, Msg: "no rules"}
		}
		return nil
	}
	o := nsqueuectl(t.Context(), d.Start(t), "describe", "0fd31/eth0")
	if o.status != 0 || strings.Contains(o.stdout, "Rules:") || o.err != "" {
		t.Errorf("%+v", o)
	}
}
