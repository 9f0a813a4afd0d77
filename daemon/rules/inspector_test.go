// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

func set(name, spec string) string {
	return "apiVersion: nsqueue.io/v1alpha1\nkind: RuleSet\nmetadata: {name: " + name + "}\nspec:\n" + spec + "\n"
}

const ports = `
  pods: {namespaces: [agents]}
  default: accept
  rules: [{name: ssh, when: server.port == 22, action: reject}]`

func mustCompile(tb testing.TB, texts ...string) *Rules {
	tb.Helper()
	var files []File
	for _, text := range texts {
		files = append(files, File{Name: "x.yaml", Data: []byte(text)})
	}
	r, err := Compile(files...)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// datagram returns a packet of UDP of a pod.
func datagram(a *inspect.Attachment, client, port uint16) *inspect.Packet {
	b := make([]byte, 29)
	b[0], b[8], b[9] = 0x45, 64, inspect.ProtoUDP
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], netip.MustParseAddr("10.0.0.1").AsSlice())
	copy(b[16:], netip.MustParseAddr("203.0.113.5").AsSlice())
	binary.BigEndian.PutUint16(b[20:], client)
	binary.BigEndian.PutUint16(b[22:], port)
	binary.BigEndian.PutUint16(b[24:], 9)
	return &inspect.Packet{Direction: inspect.Out, Payload: b, Length: len(b), Attachment: a}
}

type told struct {
	mu   sync.Mutex
	list []string
}

func (s *told) Note(a *inspect.Attachment, pod *Pod, n *Note) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a != nil && a.PodName != pod.Name {
		panic("another pod")
	}
	s.list = append(s.list, pod.Name+" "+n.Verdict.String()+" "+n.Name())
}

func TestInspector(t *testing.T) {
	sink := &told{}
	i := New(Options{Rules: mustCompile(t, set("s", ports)), Sink: sink})
	agent := &inspect.Attachment{PodNamespace: "agents", PodName: "a"}
	other := &inspect.Attachment{PodNamespace: "others", PodName: "o"}
	if v := i.Inspect(datagram(agent, 1, 22)); v.Action != inspect.NoVerdict {
		t.Errorf("a pod that is not attached: %+v", v)
	}
	i.Attached(agent)
	i.Attached(other)
	verdicts := make([]inspect.Verdict, 5)
	cut := datagram(agent, 1, 22)
	cut.Payload = cut.Payload[:10]
	i.InspectBatch([]*inspect.Packet{
		datagram(agent, 1, 22), datagram(agent, 1, 80), datagram(other, 1, 22), cut,
		datagram(&inspect.Attachment{}, 1, 22),
	}, verdicts)
	for n, want := range []inspect.Action{
		inspect.Reject, inspect.Accept, inspect.Accept, inspect.NoVerdict, inspect.NoVerdict,
	} {
		reason := [...]string{"s/ssh", "s/default", "", "", ""}[n]
		if v := verdicts[n]; v.Action != want || v.Settle != (n < 3) || v.Reason != reason {
			t.Errorf("packet %d: %+v, want %v", n, v, want)
		}
	}
	if got := strings.Join(sink.list, ", "); got != "a reject s/ssh, a accept s/default, o accept " {
		t.Errorf("told %s", got)
	}
	s := i.Stats()
	if s.Pods != 2 || s.Flows != 3 || s.Verdicts["reject"] != 1 || s.Decisions[0].Count != 1 {
		t.Errorf("%+v", s)
	}
	i.Detached(agent)
	i.Detached(other)
	if s := i.Stats(); s.Pods != 0 || s.Memory != 0 {
		t.Errorf("%+v", s)
	}
}

func replace(tb testing.TB, i *Inspector, r *Rules) []*inspect.Attachment {
	changed, err := i.Replace(tb.Context(), r)
	if err != nil {
		tb.Error(err)
	}
	return changed
}

func TestReplace(t *testing.T) {
	i := New(Options{Rules: mustCompile(t, set("s", ports))})
	agent := &inspect.Attachment{PodNamespace: "agents", PodName: "a"}
	other := &inspect.Attachment{PodNamespace: "others", PodName: "o"}
	i.Attached(agent)
	i.Attached(other)
	i.Inspect(datagram(agent, 1, 80))
	if changed := replace(t, i, mustCompile(t, "# a comment\n"+set("s", ports))); len(changed) != 0 {
		t.Errorf("equal rules change %d pods", len(changed))
	}
	if h := i.Stats().Decisions; h[1].Count != 1 || h[1].Rule != "default" {
		t.Errorf("%+v", h)
	}
	stricter := strings.ReplaceAll(ports, "== 22", "== 80")
	changed := replace(t, i, mustCompile(t, set("s", stricter)))
	if len(changed) != 1 || changed[0] != agent {
		t.Errorf("%v", changed)
	}
	if v := i.Inspect(datagram(agent, 1, 80)); v.Action != inspect.Reject || !v.Settle {
		t.Errorf("%+v", v)
	}
	if changed := replace(t, i, nil); len(changed) != 2 {
		t.Errorf("without rules: %d", len(changed))
	}
	if v := i.Inspect(datagram(agent, 1, 80)); v.Action != inspect.Accept {
		t.Errorf("%+v", v)
	}
	if list, ok := i.Of(agent); !ok || list != nil {
		t.Errorf("%v, %t", list, ok)
	}
}

// Packets, reloads, pods and readers of numbers may come together.
func TestConcurrent(t *testing.T) {
	i := New(Options{Rules: mustCompile(t, set("s", ports)), Sink: &told{}})
	rules := []*Rules{mustCompile(t, set("s", strings.ReplaceAll(ports, "22", "23"))), mustCompile(t, set("s", ports)), nil}
	shared := &inspect.Attachment{PodNamespace: "agents", PodName: "shared"}
	i.Attached(shared)
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			own := &inspect.Attachment{PodNamespace: "agents", PodName: "own"}
			for round := range 50 {
				i.Attached(own)
				verdicts := make([]inspect.Verdict, 2)
				for k := range 20 {
					i.InspectBatch([]*inspect.Packet{
						datagram(shared, uint16(n), uint16(k)), datagram(own, uint16(n), uint16(k)),
					}, verdicts)
					if verdicts[0].Action == inspect.NoVerdict {
						t.Error("a packet without a verdict")
					}
				}
				replace(t, i, rules[round%len(rules)])
				i.Tick()
				i.Stats()
				i.PodStats()
				i.Detached(own)
			}
		})
	}
	wg.Wait()
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ads := write("ads.txt", "ads.example\n")
	write("a.yaml", set("a", "  sets: {ads: {domainsFile: "+ads+"}}\n  rules: [{name: x, when: sets.ads.contains(tls.sni), action: drop}]"))
	write("b.yml", set("b", "  default: drop"))
	r, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Sets()) != 2 || len(r.Files()) != 3 {
		t.Errorf("%d sets of %v", len(r.Sets()), r.Files())
	}
	write("c.yaml", set("c", "  default: nothing"))
	_, err = Load(dir, filepath.Join(dir, "d.yaml"))
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != 2 {
		t.Fatalf("%v", err)
	}
	for _, e := range errs {
		if e.File == "" || e.Line == 0 {
			t.Errorf("%+v", e)
		}
	}
}

func TestTrial(t *testing.T) {
	sink := &told{}
	trial := mustCompile(t, set("s", ports)).Try(&Pod{Namespace: "agents", Name: "a"}, sink)
	if o := trial.Judge(datagram(nil, 1, 22), time.Second); o.Action != Reject || o.Flow == 0 {
		t.Errorf("%+v", o)
	}
	trial.End()
	if got := strings.Join(sink.list, ", "); got != "a reject s/ssh" {
		t.Errorf("told %s", got)
	}
}
