// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// A pod reaches the one name and not the other, and an event says who asked for what.
// Files that change, SIGHUP and a call bring other rules into force.
func TestRules(t *testing.T) {
	r := newRulesRig(t, api.Fail, refusing(badName))
	r.serve(t)
	a := newPod(t, r.network, "agents/a")
	r.checkNames(t, a, goodName, badName)
	r.checkNames(t, newPod(t, r.network, "agents/b"), goodName, badName)

	got := r.awaitEvent(t, badName)
	if got.Alert.Action != "blocked" || got.Alert.Signature != "sandbox/unwanted" ||
		got.Pod.Namespace != "agents" || got.Pod.Pod.Name != "a" || got.Pod.Pod.UID != "uid-of-a" {
		t.Errorf("%+v", got)
	}
	// What concerns another namespace is nothing to this one.
	if _, err := r.connect(t, newPod(t, r.network, "c"), badName); err != nil {
		t.Error(err)
	}

	r.write(t, refusing(goodName)) // which is seen
	r.awaitRules(t, goodName)
	r.checkNames(t, a, badName, goodName)
	r.checkReloads(t, a)
}

// checkReloads replaces rules in the ways of operators. The file may be seen before them:
// rules are those of the file however often it is read.
func (r *rulesRig) checkReloads(t *testing.T, a *chain.Pod) {
	t.Helper()
	r.write(t, refusing("third.example.org"))
	rules, err := r.Client.ReloadRules(t.Context())
	if err != nil || len(rules.Errors) > 0 || len(rules.Sets) != 1 {
		t.Errorf("%+v, %v", rules, err)
	}
	r.checkNames(t, a, goodName, "third.example.org")
	before := *rules.Loaded
	nstest.Must(t, syscall.Kill(r.PID(), syscall.SIGHUP)) // nothing has changed
	nstest.Eventually(t, patience, "SIGHUP has rules read", func() bool {
		rules, err := r.Client.Rules(t.Context())
		return err == nil && rules.Loaded.After(before)
	})
	r.checkNames(t, a, goodName, "third.example.org")
}

// broken is a file whose line 8 has an unknown variable at column 11.
const broken = `apiVersion: nsqueue.io/v1alpha1
kind: RuleSet
metadata: {name: sandbox}
spec:
  pods: {namespaces: [agents]}
  rules:
  - name: unwanted
    when: nothing == "known"
    action: reject
`

// A broken file changes nothing, and who asks is told what is wrong and where.
func TestRulesBroken(t *testing.T) {
	r := newRulesRig(t, api.Fail, refusing(badName))
	r.serve(t)
	a := newPod(t, r.network, "agents/a")
	r.checkNames(t, a, goodName, badName)
	r.write(t, broken)
	r.awaitComplaint(t, r.rules("rules.yaml")+":8:11: ")
	r.checkNames(t, a, goodName, badName)
	rules, err := r.Client.ReloadRules(t.Context())
	if err != nil || len(rules.Errors) != 1 || len(rules.Sets) != 1 {
		t.Errorf("%+v, %v", rules, err)
	}
	nstest.Must(t, r.network.Status(t.Context()))
	r.write(t, refusing(goodName))
	r.awaitRules(t, goodName)
	r.checkNames(t, a, badName, goodName)
	status, err := r.Client.Status(t.Context())
	if err != nil || status.Rules.Problem != "" {
		t.Errorf("%+v, %v", status.Rules, err)
	}
}

// awaitComplaint waits until everything that tells of rules names the place.
func (r *rulesRig) awaitComplaint(t *testing.T, place string) {
	t.Helper()
	nstest.Eventually(t, patience, "status says "+place, func() bool {
		status, err := r.Client.Status(t.Context())
		return err == nil && strings.Contains(status.Rules.Problem, place)
	})
	rules, err := r.Client.Rules(t.Context())
	if err != nil || len(rules.Errors) != 1 || !strings.HasPrefix(rules.Errors[0].String(), place) {
		t.Errorf("%v, %v", rules.Errors, err)
	}
	events, err := r.Client.Events(t.Context())
	nstest.Must(t, err)
	found := false
	for _, e := range events {
		found = found || e.Kind == api.EventRules && strings.Contains(e.Message, place)
	}
	if !found {
		t.Errorf("no event says %s: %+v", place, events)
	}
	text := run(t, r.operator(t).Path, "status", "--socket", r.Socket())
	if !strings.Contains(strings.Join(strings.Fields(text), " "), place) {
		t.Errorf("nsqueuectl status does not say %s:\n%s", place, text)
	}
}

// A daemon that finds a broken file has no rules: failure policies decide until the file
// is mended. The policies of pods and of the daemon are different ones here.
func TestRulesBrokenAtStart(t *testing.T) {
	r := newRulesRig(t, api.Ignore, broken)
	ignoring, failing := r.network, r.open(t, bridgeList, "1.1.0", api.Fail)
	r.serve(t)
	lax, strict := newPod(t, ignoring, "agents/lax"), newPod(t, failing, "agents/strict")
	r.awaitComplaint(t, r.rules("rules.yaml")+":8:11: ")
	if _, err := r.connect(t, lax, badName); err != nil {
		t.Errorf("under Ignore: %v", err)
	}
	if got := strict.NetNS.Ping(t, r.server.IPv4, 3, silence); got != 0 {
		t.Errorf("%d of 3 pings passed under Fail", got)
	}
	if err := failing.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "rules") {
		t.Errorf("STATUS under Fail: %v", err)
	}
	nstest.Must(t, ignoring.Status(t.Context()))

	r.write(t, refusing(badName))
	r.awaitRules(t, badName)
	r.checkNames(t, lax, goodName, badName)
	r.checkNames(t, strict, goodName, badName)
	nstest.Must(t, failing.Status(t.Context()))
}

// Who moves the events' file away and sends SIGHUP has the next events in a new one.
func TestRulesEventsMoved(t *testing.T) {
	r := newRulesRig(t, api.Ignore, refusing(badName))
	r.serve(t)
	a := newPod(t, r.network, "agents/a")
	r.checkNames(t, a, goodName, badName)
	r.awaitEvent(t, badName)
	nstest.Must(t, os.Rename(r.eventsFile(), r.eventsFile()+".1"))
	nstest.Must(t, syscall.Kill(r.PID(), syscall.SIGHUP))
	nstest.Eventually(t, patience, "a new file of events", func() bool {
		if _, err := r.connect(t, a, badName); err == nil {
			t.Fatal("not refused")
		}
		_, err := os.Stat(r.eventsFile())
		return err == nil
	})
	r.awaitEvent(t, badName)
}

// A daemon that follows another one by the same rules leaves settled flows settled: it
// sees nothing of a connection that the one before has decided, until that ends.
func TestRulesRestart(t *testing.T) {
	dir := t.TempDir()
	r := newRulesRig(t, api.Fail, refusing(badName), "sh", "-c", fmt.Sprintf(
		`p=$1; shift; exec "$p" supervise --runtime-dir %s -- "$@"`, dir), "sh")
	r.serve(t)
	a := newPod(t, r.network, "agents/a")
	conn, err := r.connect(t, a, goodName)
	nstest.Must(t, err)
	talk(t, conn)
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		r.restart(t, signal)
		seen := r.watch(t, a)
		for range 10 {
			talk(t, conn)
		}
		// Another connection is seen, and is the first that is.
		again, err := r.connect(t, a, goodName)
		nstest.Must(t, err)
		port := again.LocalAddr().String()
		if e := <-seen; fmt.Sprintf("%s:%d", e.Source, e.SourcePort) != port {
			t.Errorf("after %v, of a settled flow is seen %+v", signal, e)
		}
	}
	r.checkNames(t, a, goodName, badName)
}

// restart ends the worker of the supervisor, and waits for the next one.
func (r *rulesRig) restart(t *testing.T, signal syscall.Signal) {
	t.Helper()
	before, err := r.Client.Status(t.Context())
	nstest.Must(t, err)
	nstest.Must(t, syscall.Kill(before.PID, signal))
	nstest.Eventually(t, patience, "another worker", func() bool {
		s, err := r.Client.Status(t.Context())
		return err == nil && s.PID != before.PID && s.Attachments == before.Attachments
	})
}

// watch returns what is seen of TCP of a pod from now on.
func (r *rulesRig) watch(t *testing.T, p *chain.Pod) <-chan api.PacketEvent {
	t.Helper()
	seen, ready := make(chan api.PacketEvent, 4096), make(chan struct{})
	request := api.WatchRequest{Namespace: p.Namespace, Pod: p.Name, Protocol: "tcp"}
	go func() {
		defer close(seen)
		_ = r.Client.Watch(t.Context(), request, func() { close(ready) },
			func(events []api.PacketEvent) error {
				for _, e := range events {
					seen <- e
				}
				return nil
			})
	}()
	<-ready
	return seen
}

// SIGHUP ends no daemon, whether there is something to read again or not.
func TestRulesNone(t *testing.T) {
	r := startRig(t, api.Ignore)
	nstest.Must(t, syscall.Kill(r.PID(), syscall.SIGHUP))
	nstest.Eventually(t, patience, "it says that there is nothing to reload", func() bool {
		return r.Log.Contains("nothing to reload")
	})
	if _, err := r.Client.ReloadRules(t.Context()); err == nil {
		t.Error("rules are reloaded where there are none")
	}
	nstest.Must(t, r.Stop())
}

// nsqueuectl shows the same rules as the daemon has.
func TestRulesShown(t *testing.T) {
	r := newRulesRig(t, api.Ignore, refusing(badName))
	text := run(t, r.operator(t).Path, "status", "--socket", r.Socket())
	if want := "1 set from " + r.rules(""); !strings.Contains(text, filepath.Clean(want)) {
		t.Errorf("status does not say %q:\n%s", want, text)
	}
	out, err := exec.CommandContext(t.Context(), r.operator(t).Path, "rules", "list", "-o", "json",
		"--socket", r.Socket()).Output()
	nstest.Must(t, err)
	var rules api.Rules
	if err := json.Unmarshal(out, &rules); err != nil || len(rules.Sets) != 1 ||
		rules.Sets[0].Name != "sandbox" {
		t.Errorf("%v: %s", err, out)
	}
}
