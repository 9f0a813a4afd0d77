// SPDX-License-Identifier: Apache-2.0

package external

import (
	"fmt"
	"slices"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// outsider drops odd packets, marks the others, and says what it heard.
type outsider struct {
	name  string
	heard []string
	needs inspect.Needs
}

func (o *outsider) InspectBatch(packets []*inspect.Packet, verdicts []inspect.Verdict) {
	o.heard = append(o.heard, fmt.Sprint("batch of ", len(packets)))
	for i, p := range packets {
		if verdicts[i].Action != inspect.Accept || verdicts[i].Settle {
			o.heard = append(o.heard, fmt.Sprintf("verdict %+v", verdicts[i]))
		}
		if p.ID%2 == 1 {
			verdicts[i] = inspect.Verdict{Action: inspect.Drop, Reason: o.name}
		}
	}
}

func (o *outsider) Attached(a *inspect.Attachment, whole bool) {
	o.heard = append(o.heard, fmt.Sprint("attached ", a.PodName, " ", whole))
}

func (o *outsider) Detached(a *inspect.Attachment) {
	o.heard = append(o.heard, "detached "+a.PodName)
}
func (o *outsider) Needs(*inspect.Attachment) inspect.Needs { return o.needs }
func (o *outsider) Reader(*inspect.Attachment) api.Reader   { return api.Reader{Name: o.name} }

func packet(a *inspect.Attachment, id uint32, port byte) *inspect.Packet {
	b := []byte{
		0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
		0x80, byte(id), 0, port, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0,
	}
	return &inspect.Packet{
		ID: id, Attachment: a, Payload: b, Length: len(b), Direction: inspect.Out,
	}
}

const ruleSet = `
apiVersion: nsqueue.io/v1alpha1
kind: RuleSet
metadata: {name: s}
spec:
  rules:
  - {name: mark, when: server.port == 80, action: mark, mark: 0x10/0x10}
  - {name: refuse, when: server.port == 23, action: reject}
  - {name: ask, when: server.port == 80, action: inspect, inspector: web}
`

func loaded(t *testing.T) *rules.Inspector {
	t.Helper()
	r, err := rules.Compile(rules.File{Name: "s.yaml", Data: []byte(ruleSet)})
	if err != nil {
		t.Fatal(err)
	}
	return rules.New(rules.Options{Rules: r})
}

// Rules decide first. What they accept goes to the inspector of the pod, what they leave to
// another one to that one, with the marks of rules, and nothing is settled for it.
func TestPacketsGoToTheirInspectors(t *testing.T) {
	web, whole := &outsider{name: "web"}, &outsider{name: "whole"}
	r := NewRouter(loaded(t), []Entry{
		{Name: "web", Inspector: web},
		{
			Name: "whole", Inspector: whole,
			Selects: func(p *rules.Pod) bool { return p.Name == "w" },
		},
	})
	a := &inspect.Attachment{PodName: "w", ContainerID: "c", Ifname: "eth0"}
	r.Attached(a)
	packets := []*inspect.Packet{
		packet(a, 0, 80), packet(a, 2, 23), packet(a, 1, 80), packet(a, 4, 81), packet(a, 5, 82),
	}
	verdicts := make([]inspect.Verdict, len(packets))
	r.InspectBatch(packets, verdicts)
	if v := verdicts[0]; v.Action != inspect.Accept || v.Mark != 0x10 || v.Settle {
		t.Errorf("to web: %+v", v)
	}
	if v := verdicts[1]; v.Action != inspect.Reject {
		t.Errorf("to port 23: %+v", v)
	}
	if v := verdicts[2]; v.Action != inspect.Drop || v.Reason != "web" {
		t.Errorf("odd to web: %+v", v)
	}
	if v := verdicts[3]; v.Action != inspect.Accept || v.Settle {
		t.Errorf("the rest: %+v", v)
	}
	if v := verdicts[4]; v.Action != inspect.Drop || v.Reason != "whole" {
		t.Errorf("the odd rest: %+v", v)
	}
	if got, ok := r.Reader("c", "eth0"); !ok || got.Name != "whole" {
		t.Errorf("reader %+v", got)
	}
	r.Detached(a)
	for o, want := range map[*outsider][]string{
		web:   {"attached w false", "batch of 2", "detached w"},
		whole: {"attached w true", "batch of 2", "detached w"},
	} {
		if !slices.Equal(o.heard, want) {
			t.Errorf("%s heard %q, want %q", o.name, o.heard, want)
		}
	}
}

// Without rules, all packets of a pod go to its inspector, the first that selects it, and
// those of other pods are accepted.
func TestInspectorsWithoutRules(t *testing.T) {
	first, second := &outsider{name: "first"}, &outsider{name: "second"}
	first.needs.CopyRange = 128
	all := func(p *rules.Pod) bool { return p.Name != "" }
	r := NewRouter(nil, []Entry{
		{Name: "first", Inspector: first, Selects: all},
		{Name: "second", Inspector: second, Selects: all},
	})
	a, other := &inspect.Attachment{PodName: "w"}, &inspect.Attachment{}
	r.Attached(a)
	r.Attached(other)
	if v := r.Inspect(packet(a, 1, 80)); v.Action != inspect.Drop || v.Reason != "first" {
		t.Errorf("%+v", v)
	}
	if v := r.Inspect(packet(other, 1, 80)); v.Action != inspect.Accept {
		t.Errorf("of another pod: %+v", v)
	}
	if len(second.heard) > 0 {
		t.Errorf("the second heard %q", second.heard)
	}
	if n := r.NeedsOf(a); n.CopyRange != 128 || !n.Defers {
		t.Errorf("needs %+v", n)
	}
	if r.DigestOf(a) != "" || r.DigestOf(other) == "" {
		t.Error("digests are wrong")
	}
}

// A flow that rules leave to an inspector is never settled by what rules remember.
func TestRulesNeedWholePacketsForInspectors(t *testing.T) {
	r := NewRouter(loaded(t), []Entry{{Name: "web", Inspector: &outsider{}}})
	a := &inspect.Attachment{}
	r.Attached(a)
	if n := r.NeedsOf(a); n.CopyRange < 1<<16 {
		t.Errorf("needs %+v", n)
	}
	if d := r.DigestOf(a); d != "" {
		t.Errorf("digest %q of what nobody knows", d)
	}
}
