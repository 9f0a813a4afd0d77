// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// attachments are what the tests' daemon has.
func attachments() []api.Attachment {
	key := func(id, ifname string) api.Key { return api.Key{ContainerID: id, Ifname: ifname} }
	return []api.Attachment{
		{
			Key: key("0fd31c8e5a2b77aa01", "eth0"), Network: "cbr0", Origin: api.OriginCNI,
			Pod:   api.Pod{Namespace: "default", Name: "busybox1", UID: "u"},
			Netns: api.Netns{Cookie: 4097, Dev: 4, Ino: 4026532000, Path: "/run/netns/a"},
			Hook:  "nft", State: api.Active, FailurePolicy: api.Fail,
			Queues: []api.Queue{{Number: 80, Length: 4096}},
			Counters: api.Counters{
				Packets: 1234, Bytes: 99999, Accepted: 1230, Dropped: 4, InspectNanoseconds: 2468000,
			},
			Created: testNow().Add(-5 * time.Minute),
			Reader:  &api.Reader{Kind: api.ReaderInspector, Name: "ids", PID: 7},
		},
		{
			Key: key("0fd31c8e5a2b77aa01", "net1"), Hook: "nft", State: api.Active,
			FailurePolicy: api.Ignore, Queues: []api.Queue{{Number: 80}, {Number: 81}, {Number: 90}},
			Created: testNow().Add(-50 * time.Hour),
			Reader:  &api.Reader{Kind: api.ReaderRules},
		},
		{
			Key: key("0fd4", "eth0"), Origin: api.OriginManual, Hook: "nft", State: api.Attaching,
			FailurePolicy: api.Ignore, Queues: []api.Queue{}, Created: testNow(),
		},
	}
}

func TestList(t *testing.T) {
	d := apitest.Daemon{Attachments: attachments()}
	socket := d.Start(t)
	want := `
CONTAINER ID  IFNAME  POD               HOOK  POLICY  STATE      QUEUE     PACKETS  DROPPED  AGE  READER
0fd31c8e5a2b  eth0    default/busybox1  nft   Fail    active     80        1234     4        5m   inspector ids
0fd31c8e5a2b  net1    -                 nft   Ignore  active     80-81,90  0        0        2d   rules
0fd4          eth0    -                 nft   Ignore  attaching  -         0        0        0s   -
`[1:]
	nsqueuectl(t.Context(), socket, "list").want(t, 0, want, "")
	nsqueuectl(t.Context(), socket, "ls", "-o", "table").want(t, 0, want, "")

	o := nsqueuectl(t.Context(), socket, "list", "-o", "json")
	var got api.AttachmentList
	dec := json.NewDecoder(strings.NewReader(o.stdout))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&got); err != nil || o.status != 0 {
		t.Fatalf("%+v: %v", o, err)
	}
	if diff := cmp.Diff(api.AttachmentList{Attachments: attachments()}, got); diff != "" {
		t.Errorf("attachments (-want +got):\n%s", diff)
	}
}

// Programs of a pod are shown with their processes, whatever their names are.
func TestListPrograms(t *testing.T) {
	list := attachments()
	read := func(a *api.Attachment, kind api.ReaderKind, programs ...api.Program) {
		a.Reader, a.Programs = &api.Reader{Kind: kind, Name: "seed"}, programs
	}
	read(&list[0], api.ReaderProgram,
		api.Program{Name: "seed", PID: 4711}, api.Program{Name: "se\x1b[31m", Ready: true, PID: 1 << 22})
	read(&list[1], api.ReaderRules, api.Program{Name: "seed"}, api.Program{Name: "own", Ready: true})
	read(&list[2], api.ReaderProgram)
	d := apitest.Daemon{Attachments: list}
	socket := d.Start(t)
	nsqueuectl(t.Context(), socket, "list").want(t, 0, `
CONTAINER ID  IFNAME  POD               HOOK  POLICY  STATE      QUEUE     PACKETS  DROPPED  AGE  READER
0fd31c8e5a2b  eth0    default/busybox1  nft   Fail    active     80        1234     4        5m   program seed (4711), program se\x1b[31m (4194304)
0fd31c8e5a2b  net1    -                 nft   Ignore  active     80-81,90  0        0        2d   rules, program seed (away), program own (there)
0fd4          eth0    -                 nft   Ignore  attaching  -         0        0        0s   program seed (away)
`[1:], "")
	o := nsqueuectl(t.Context(), socket, "list", "-o", "json")
	var got api.AttachmentList
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil || got.Attachments[0].Programs[0].PID != 4711 {
		t.Errorf("%+v: %v", o, err)
	}
}

func TestListNothing(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	nsqueuectl(t.Context(), socket, "list").want(t, 0, "", "No attachments.\n")
	nsqueuectl(t.Context(), socket, "list", "-o", "json").
		want(t, 0, "{\n  \"attachments\": []\n}\n", "")
}

func TestStatus(t *testing.T) {
	d := apitest.Daemon{Info: api.Status{
		Version: "v1.2.3", PID: 4711, Started: testNow().Add(-3 * time.Hour),
		Supervisor: api.Supervisor{Kind: api.Supervise, PID: 4700, Restarts: 1, Stored: 4, Capacity: 9},
		StateDir:   "/run/nsqueue", FailurePolicy: api.Ignore,
		Hook: api.HookStatus{
			Kind: "nft", Detail: "xt target", Reason: "the module is not loaded",
			Flaws: []api.Flaw{{What: "flows cannot be settled"}},
		},
		Attachments: 2,
		Counters: api.Counters{
			Packets: 12, Bytes: 1008, Accepted: 9, Dropped: 1, Queued: 2, Rejected: 8,
			Untold: 7, Malformed: 3, Panics: 4, Errors: 5, Overruns: 6, Flushed: 7,
		},
		Orphans: 64, Spooled: 1, Descriptors: api.Descriptors{Open: 20, Limit: 1024, Room: 100},
		Buffers: api.Buffers{Queues: 2, Each: 8 << 20, Possible: 8 << 20, Total: 1 << 30},
		Problems: []api.Problem{
			{
				Key: api.Key{ContainerID: "0fd31c8e5a2b77aa01", Ifname: "eth0"},
				Pod: api.Pod{Namespace: "default", Name: "busybox1"}, FailurePolicy: api.Fail,
				Message: "queue 80 is taken",
			},
			{
				Key:           api.Key{ContainerID: "0fd4", Ifname: "eth0"},
				FailurePolicy: api.Ignore, Message: "no table",
			},
			{
				Key:           api.Key{ContainerID: "0fd5", Ifname: "eth0"},
				FailurePolicy: api.Fail, Message: "it panicked", Inspector: true,
			},
			{
				Key:           api.Key{ContainerID: "0fd6", Ifname: "eth0"},
				FailurePolicy: api.Fail, Message: "a VM", PastHook: true,
			},
		},
	}}
	socket := d.Start(t)
	nsqueuectl(t.Context(), socket, "status").want(t, 0, `
Version:             v1.2.3 (this is nsqueuectl `[1:]+api.Version()+`)
Process:             4711
Started:             2026-01-02T00:04:05Z (3h ago)
Supervisor:          supervise (process 4700, 1 restart)
Stored descriptors:  4 of at most 9
State directory:     /run/nsqueue
Failure policy:      Ignore
Hook:                nft (xt target)
Hook chosen:         the module is not loaded
Hook flaw:           flows cannot be settled
Hook survives exit:  no
Attachments:         2
Packets:             12, 1008 bytes
Verdicts:            9 accepted, 1 dropped, 8 rejected (7 untold), 2 queued
Errors:              3 malformed, 4 panics, 6 overruns, 7 flushed, 5 other
Receive buffers:     8 MiB for each of 2 queues, at most 1 GiB in all
Descriptors:         20 of 1024, room for 100 more pods
Undelivered:         1 CNI call
Orphans:             64 packets
Problems:            4
  default/busybox1, 0fd31c8e5a2b/eth0: queue 80 is taken; packets are dropped
  0fd4/eth0: no table; packets pass uninspected
  0fd5/eth0: it panicked; some packets are dropped
  0fd6/eth0: a VM; packets pass uninspected
`, "")

	o := nsqueuectl(t.Context(), socket, "status", "-o", "json")
	var got api.Status
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil {
		t.Fatalf("%+v: %v", o, err)
	}
	if diff := cmp.Diff(d.Info, got); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

// A status tells what the supervisor is to others.
func TestStatusOfHandover(t *testing.T) {
	d := apitest.Daemon{Info: api.Status{
		Supervisor: api.Supervisor{Kind: api.Supervise, Handover: &api.Handover{
			Role: api.RoleActive, Since: testNow().Add(-2 * time.Minute), Instance: "kube-system/nsqueue",
			Peers: []api.HandoverPeer{{
				Role: api.RoleStandby, Version: "v1.2.2", Since: testNow().Add(-time.Minute),
			}},
			Refusals: 3, Ending: true, LastRefusal: &api.HandoverRefusal{
				At: testNow().Add(-time.Second), Version: "v1.2.4", Reason: "rules are wrong",
			},
		}},
	}}
	o := nsqueuectl(t.Context(), d.Start(t), "status")
	for _, line := range []string{
		"Role:                active of kube-system/nsqueue, for 2m, awaits its successor",
		"Peer:                standby, v1.2.2, connected for 60s",
		"Take-overs refused:  3, the last one 1s ago, of version v1.2.4: rules are wrong",
	} {
		if !strings.Contains(o.stdout, line+"\n") {
			t.Errorf("want %q in\n%s", line, o.stdout)
		}
	}
	o = nsqueuectl(t.Context(), d.Start(t), "status", "-o", "json")
	var s struct {
		Supervisor struct {
			Handover struct {
				Role, Since string
				Peers       []struct{ Role, Version, Since string }
			}
		}
	}
	if err := json.Unmarshal([]byte(o.stdout), &s); err != nil {
		t.Fatal(err)
	}
	at := func(ago time.Duration) string { return testNow().Add(-ago).Format(time.RFC3339) }
	h := s.Supervisor.Handover
	if h.Role != "active" || h.Since != at(2*time.Minute) || len(h.Peers) != 1 ||
		h.Peers[0].Role != "standby" || h.Peers[0].Version != "v1.2.2" ||
		h.Peers[0].Since != at(time.Minute) {
		t.Errorf("in JSON: %+v", h)
	}
}

// A status tells which rules are in force, or that none are, and why.
func TestStatusRules(t *testing.T) {
	loaded := testNow().Add(-2 * time.Hour)
	d := apitest.Daemon{Info: api.Status{
		Rules: &api.RulesState{Directory: "/etc/nsqueue/rules.d", Loaded: &loaded, Sets: 2},
	}}
	lines := func() string {
		o := nsqueuectl(t.Context(), d.Start(t), "status")
		_, text, _ := strings.Cut(o.stdout, "Hook survives exit:  no\n")
		text, _, _ = strings.Cut(text, "Attachments:")
		return text
	}
	const inForce = "Rules:               2 sets from /etc/nsqueue/rules.d, read 2h ago\n"
	const problem = "Rules problem:       a.yaml:1:2: no\n"
	if got := lines(); got != inForce {
		t.Errorf("in force: %q", got)
	}
	d.Info.Rules.Problem = "a.yaml:1:2: no"
	if got := lines(); got != inForce+problem {
		t.Errorf("others refused: %q", got)
	}
	d.Info.Rules.Loaded = nil
	want := "Rules:               none in force, from /etc/nsqueue/rules.d\n" + problem
	if got := lines(); got != want {
		t.Errorf("none: %q", got)
	}
}

func TestAttach(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	netns := apitest.OtherNetns(t)
	args := []string{
		"attach", "--netns", netns, "--container-id", "blue", "--ifname", "veth1",
		"--pod", "default/blue", "--failure-policy", "Fail",
	}
	nsqueuectl(t.Context(), socket, args...).
		want(t, 0, "blue/veth1 attached (hook none, queue -, failure policy Fail)\n", "")

	o := nsqueuectl(t.Context(), socket, append(args, "-o", "json")...)
	var a api.Attachment
	if err := json.Unmarshal([]byte(o.stdout), &a); err != nil || a.String() != "blue/veth1" {
		t.Errorf("%+v: %v", o, err)
	}

	want := api.AttachRequest{
		Key:    api.Key{ContainerID: "blue", Ifname: "veth1"},
		Origin: api.OriginManual, Pod: api.Pod{Namespace: "default", Name: "blue"},
		NetnsPath: netns, FailurePolicy: api.Fail,
	}
	info, err := os.Stat(netns)
	if err != nil {
		t.Fatal(err)
	}
	attached := d.Attached()
	if len(attached) != 2 {
		t.Fatalf("%d attach calls, want 2", len(attached))
	}
	for _, got := range attached {
		if diff := cmp.Diff(want, got.AttachRequest); diff != "" {
			t.Errorf("request (-want +got):\n%s", diff)
		}
		if got.Netns == nil || !os.SameFile(info, got.Netns) {
			t.Errorf("descriptor %+v is not the netns", got.Netns)
		}
	}
}

func TestAttachMissingNetns(t *testing.T) {
	nsqueuectl(t.Context(), "/nowhere", "attach", "--netns", "/no/netns", "--container-id", "a").
		want(t, 1, "", "nsqueuectl: open netns: open /no/netns: no such file or directory\n")
}

func TestDetach(t *testing.T) {
	for _, test := range []struct {
		line   string
		status int
		stdout string
		stderr string
		calls  []string
	}{
		{
			"detach 0fd31", 0, "0fd31c8e5a2b77aa01/eth0 detached\n0fd31c8e5a2b77aa01/net1 detached\n", "",
			[]string{"list", "detach 0fd31c8e5a2b77aa01/eth0", "detach 0fd31c8e5a2b77aa01/net1"},
		},
		{
			"detach 0fd31c8e5a2b/net1 0fd4", 0, "0fd31c8e5a2b77aa01/net1 detached\n0fd4/eth0 detached\n", "",
			[]string{"list", "detach 0fd31c8e5a2b77aa01/net1", "detach 0fd4/eth0"},
		},
		{"detach 0fd4 -o json", 0, "{\n  \"detached\": 1\n}\n", "", []string{"list", "detach 0fd4/eth0"}},
		{
			"detach 0fd", 1, "", "container ID \"0fd\" matches 2 containers: give more of the ID",
			[]string{"list"},
		},
		{
			"detach 0fd/net1", 0, "0fd31c8e5a2b77aa01/net1 detached\n", "",
			[]string{"list", "detach 0fd31c8e5a2b77aa01/net1"},
		},
		{
			"detach 0fd4 beef", 1, "", "no attachment matches \"beef\": see nsqueuectl list",
			[]string{"list"},
		},
		{"detach beef --ignore-not-found", 0, "", "", []string{"list"}},
		{"detach --all", 0, "3 attachments detached\n", "", []string{"detach all"}},
		{"detach --all -o json", 0, "{\n  \"detached\": 3\n}\n", "", []string{"detach all"}},
	} {
		t.Run(test.line, func(t *testing.T) {
			d := apitest.Daemon{Attachments: attachments()}
			stderr := test.stderr
			if stderr != "" {
				stderr = "nsqueuectl: " + stderr + "\n"
			}
			nsqueuectl(t.Context(), d.Start(t), strings.Fields(test.line)...).
				want(t, test.status, test.stdout, stderr)
			if diff := cmp.Diff(test.calls, d.Calls()); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

// The whole ID of one container may be the beginning of another's.
func TestDetachExactFirst(t *testing.T) {
	key := api.Key{ContainerID: "ab", Ifname: "eth0"}
	got, err := resolve([]api.Attachment{
		{Key: api.Key{ContainerID: "abc", Ifname: "eth0"}}, {Key: key},
	}, "ab")
	if diff := cmp.Diff([]api.Key{key}, got); diff != "" || err != nil {
		t.Errorf("resolve: %v\n%s", err, diff)
	}
}
