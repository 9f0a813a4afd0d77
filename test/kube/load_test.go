// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kube

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/damage/load"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// talkers are the pods between which packets flow: one of each policy on each node.
func (r *rig) talkers() []*talker {
	var all []*talker
	for _, n := range r.nodes {
		for _, policy := range []api.Policy{api.Ignore, api.Fail} {
			all = append(all, &talker{
				name: fmt.Sprintf("%s-%s", strings.ToLower(string(policy)), n.name()),
				node: n, policy: policy,
			})
		}
	}
	return all
}

// talker is such a pod.
type talker struct {
	name   string
	node   *node
	policy api.Policy

	ns *nstest.NetNS
	ip netip.Addr
}

// namespace has the tests' pods.
const namespace = "default"

const talkerManifest = `apiVersion: v1
kind: Pod
metadata:
  name: %[1]s
  namespace: ` + namespace + `
  labels: {app: talker, policy: %[2]s}
  annotations: {nsqueue.io/failure-policy: %[2]s}
spec:
  nodeName: %[3]s
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  containers:
    - {name: main, image: ` + podImage + `, imagePullPolicy: Never, command: [/bin/podtool, serve]}
---
`

// startTalkers has them run, if they do not yet.
func (r *rig) startTalkers(t *testing.T) {
	t.Helper()
	var text strings.Builder
	all := r.talkers()
	for _, one := range all {
		fmt.Fprintf(&text, talkerManifest, one.name, one.policy, one.node.name())
	}
	r.applyText(t, text.String())
	r.awaitPods(t, namespace, "app=talker", len(all))
}

// netns returns the path of a pod's netns, as this process sees it, and the pod's
// address, by what the runtime says of them.
func (n *node) netns(t *testing.T, name string) (string, netip.Addr, error) {
	t.Helper()
	list, err := n.client.Runtime.ListPodSandbox(lasting(t), &runtime.ListPodSandboxRequest{
		Filter: &runtime.PodSandboxFilter{
			LabelSelector: map[string]string{"io.kubernetes.pod.name": name},
			State:         &runtime.PodSandboxStateValue{State: runtime.PodSandboxState_SANDBOX_READY},
		},
	})
	if err != nil {
		return "", netip.Addr{}, err
	}
	if len(list.GetItems()) != 1 {
		return "", netip.Addr{}, fmt.Errorf("%d sandboxes of %s on %s", len(list.GetItems()), name, n.name())
	}
	status, err := n.client.Runtime.PodSandboxStatus(lasting(t), &runtime.PodSandboxStatusRequest{
		PodSandboxId: list.GetItems()[0].GetId(), Verbose: true,
	})
	if err != nil {
		return "", netip.Addr{}, err
	}
	path, err := netnsIn(status.GetInfo()["info"])
	if err != nil {
		return "", netip.Addr{}, fmt.Errorf("%s: %w", name, err)
	}
	ip, err := netip.ParseAddr(status.GetStatus().GetNetwork().GetIp())
	return n.File(path), ip, err
}

// netnsIn finds the netns in the details that a runtime tells.
func netnsIn(details string) (string, error) {
	var info struct {
		RuntimeSpec struct {
			Linux struct{ Namespaces []struct{ Type, Path string } }
		}
	}
	if err := json.Unmarshal([]byte(details), &info); err != nil {
		return "", err
	}
	for _, ns := range info.RuntimeSpec.Linux.Namespaces {
		if ns.Type == "network" {
			// From outside of the node, the link /var/run leads elsewhere.
			return strings.TrimPrefix(ns.Path, "/var"), nil
		}
	}
	return "", errors.New("the runtime tells of no netns")
}

// open enters the talkers' netns.
func (r *rig) open(t *testing.T) []*talker {
	t.Helper()
	all := r.talkers()
	for _, one := range all {
		path, ip, err := one.node.netns(t, one.name)
		nstest.Must(t, err)
		one.ns, one.ip = nstest.Open(t, path), ip
	}
	return all
}

// outcome is what became of the traffic to pods of each policy.
type outcome struct {
	ignore, fail load.Result
	tcp          time.Duration // for which the stream stood still
	lost         int           // bytes of the stream
}

func (o outcome) String() string {
	return fmt.Sprintf("Ignore: %v; Fail: %v; TCP: %d bytes lost, longest stall %v",
		o.ignore, o.fail, o.lost, o.tcp.Round(time.Millisecond))
}

// perfect fails the test if anything was lost or passed uninspected.
func (o outcome) perfect(t *testing.T) {
	t.Helper()
	if o.ignore.Uninspected+o.fail.Uninspected > 0 {
		t.Errorf("packets passed uninspected: %v", o)
	}
	o.lossless(t)
}

// lossless fails the test if anything was lost.
func (o outcome) lossless(t *testing.T) {
	t.Helper()
	if o.ignore.Lost+o.fail.Lost+o.lost > 0 || o.ignore.Sent == 0 || o.fail.Sent == 0 {
		t.Errorf("packets are lost: %v", o)
	}
}

// rate is how many datagrams a second go to each pod.
func rate(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv("NSQUEUE_KUBE_RATE"), "1000"))
	nstest.Must(t, err)
	return n
}

// underLoad does the damage while datagrams and a stream go from each node to the other.
func (r *rig) underLoad(t *testing.T, damage func()) outcome {
	t.Helper()
	all := r.open(t)
	var running sync.WaitGroup
	check := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	flows := make([]*load.Flow, len(all))
	for i, to := range all {
		from := all[(i+len(all)/2)%len(all)] // of the same policy, on the other node
		receiver := to.ns.ListenUDP(t, netip.AddrPortFrom(to.ip, 0).String(),
			nstest.ReceiveBuffer(64<<20))
		f := load.NewFlow(from.ns.DialUDP(t, receiver.LocalAddr().String()), receiver, rate(t))
		flows[i] = f
		running.Go(func() { check(f.Send()) })
		running.Go(func() { check(f.Receive()) })
	}
	first, last := all[0], all[len(all)-1]
	l := last.ns.ListenTCP(t, netip.AddrPortFrom(last.ip, 0).String())
	out := first.ns.DialTCP(t, l.Addr().String())
	in, err := l.Accept()
	nstest.Must(t, err)
	defer in.Close()
	stream := load.NewStream(out, in, 4<<20)
	running.Go(func() { check(stream.Send()) })
	running.Go(func() { check(stream.Receive()) })
	func() {
		defer func() {
			stream.Stop()
			for _, f := range flows {
				f.Stop()
			}
			running.Wait()
		}()
		damage()
	}()
	o := outcome{tcp: stream.Stall(), lost: stream.Lost()}
	for i, f := range flows {
		if all[i].policy == api.Fail {
			o.fail.Add(f.Result())
		} else {
			o.ignore.Add(f.Result())
		}
	}
	r.progress(t, "%v", o)
	return o
}

// wait lets a time of load pass.
func wait(d time.Duration) { <-time.After(d) }
