// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"encoding/binary"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// adoptConfig excludes a namespace from adoption.
const adoptConfig = `apiVersion: nsqueue.io/v1alpha1
kind: DaemonConfiguration
adopt: {excludeNamespaces: [kube-system]}
`

// TestAdopt starts nsqueue beside pods that the stock chain has made.
func TestAdopt(t *testing.T) {
	r := newRig(t, api.Ignore)
	stock := r.openStock(t)
	a, b := newPod(t, stock, "a"), newPod(t, stock, "b")
	system := newPod(t, stock, "kube-system/dns")
	moved, reused := newPod(t, stock, "moved"), newPod(t, stock, "reused")
	readdress(t, moved, "10.244.7.200/24")
	vpn := nstest.New(t)
	mountOver(t, vpn, reused.NetNS)
	config := filepath.Join(r.dir, "config.yaml")
	if err := os.WriteFile(config, []byte(adoptConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	r.SetArgs("--config", config)
	r.start(t)
	ours := r.open(t, flannelList, "", api.Ignore)
	added := newPod(t, ours, "added")

	others := []string{
		"added: already attached: ",
		"dns: skipped: namespace kube-system is excluded",
		"moved: skipped: eth0 in " + moved.NetNS.Path() + " has 10.244.7.200, the cached result has " +
			moved.IPv4.String(),
		"reused: skipped: there is no interface eth0 in ",
	}
	r.expectAdopted(t, []string{"--dry-run"}, append(others, "a: would adopt: ", "b: would adopt: ")...)
	if got := r.list(t); len(got) != 1 || got[0].Key != added.Key() {
		t.Errorf("a dry run left %v attached", got)
	}

	flow := startFlow(t, a, b)
	r.expectAdopted(t, nil, append(others, "a: adopted: ", "b: adopted: ")...)
	flow.expectNoLoss(t)
	r.checkAdopted(t, stock, a, b)
	r.checkSeen(t, a, b)
	r.checkSeen(t, b, a)
	pingAll(t, system, a.IPv4)

	before := r.list(t)
	r.expectAdopted(t, nil, append(others, "a: already attached: ", "b: already attached: ")...)
	counting := cmpopts.IgnoreFields(api.Attachment{}, "Counters")
	if diff := cmp.Diff(before, r.list(t), counting); diff != "" {
		t.Errorf("adopting twice changes (-want +got):\n%s", diff)
	}

	// The runtime deletes with the conflist of today.
	freed, err := a.NetNS.Canary("canary")
	if err != nil {
		t.Fatal(err)
	}
	a.SetNetwork(ours)
	remove(t, a)
	if got := r.list(t); len(got) != 2 {
		t.Errorf("%d attachments after DEL, want 2: %v", len(got), got)
	}
	nstest.Eventually(t, patience, "the kernel frees the netns", freed)
}

// TestAdoptUnknown leaves a netns alone that no runtime knows, until it is
// attached by hand.
func TestAdoptUnknown(t *testing.T) {
	r := startRig(t, api.Ignore)
	blue := nstest.New(t)
	r.expectAdopted(t, nil, blue.Path()+": unknown: no cached result is about it")
	if got := r.list(t); len(got) != 0 {
		t.Errorf("attached: %v", got)
	}
	r.ctl(t, "attach", "--netns", blue.Path(), "--container-id", "blue")
	r.expectAdopted(t, nil)
	r.ctl(t, "detach", "blue")
}

// TestAdoptExisting has nsqueued adopt at each start, beside what it restores.
func TestAdoptExisting(t *testing.T) {
	r := newRig(t, api.Fail)
	stock := r.openStock(t)
	a, b := newPod(t, stock, "a"), newPod(t, stock, "b")
	r.SetArgs("--adopt-existing")
	r.start(t)
	r.awaitAttached(t, 2)
	r.checkAdopted(t, stock, a, b)
	r.checkSeen(t, a, b)
	r.checkSeen(t, b, a)
	log := r.Log.String()
	if strings.Index(log, "pod adopted") < strings.Index(log, "msg=serving") {
		t.Error("nsqueued adopted before it served")
	}

	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	meanwhile := newPod(t, stock, "meanwhile")
	r.start(t)
	r.awaitAttached(t, 3)
	r.checkAdopted(t, stock, a, b, meanwhile)
	r.checkSeen(t, meanwhile, a)
	nstest.Eventually(t, patience, "nsqueued sums up", func() bool {
		return r.Log.Contains("adopted=2 alreadyAttached=0") &&
			r.Log.Contains("adopted=1 alreadyAttached=2")
	})
	if got := strings.Count(r.Log.String(), "pod adopted"); got != 3 {
		t.Errorf("%d lines about adopted pods, want 3", got)
	}
	for _, p := range []*chain.Pod{a, b, meanwhile} {
		p.SetNetwork(r.open(t, flannelList, "", api.Fail))
		remove(t, p)
	}
	if got := r.list(t); len(got) != 0 {
		t.Errorf("attached after DEL: %v", got)
	}
}

// ctl runs the operator's command and returns its standard output.
func (r *rig) ctl(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(filepath.Join(binDir(t), "nsqueuectl"), args...)
	cmd.Env = append(os.Environ(), "NSQUEUE_SOCKET="+r.Socket())
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("nsqueuectl %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return out
}

// expectAdopted runs the command, which must show these results, as "pod:
// outcome: reason" or a beginning of that.
func (r *rig) expectAdopted(t *testing.T, args []string, want ...string) {
	t.Helper()
	var found api.AdoptResults
	out := r.ctl(t, append([]string{"adopt", "-o", "json"}, args...)...)
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatalf("nsqueuectl adopt -o json: %v\n%s", err, out)
	}
	var got []string
	for _, f := range found.Results {
		who := f.Pod.Name
		if who == "" {
			who = f.Netns.Path
		}
		got = append(got, who+": "+string(f.Outcome)+": "+f.Reason)
	}
	slices.Sort(got)
	want = slices.Sorted(slices.Values(want))
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("adopt %v: got\n\t%s\nwant\n\t%s", args,
			strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func (r *rig) awaitAttached(t *testing.T, n int) {
	t.Helper()
	nstest.Eventually(t, patience, "pods are adopted", func() bool {
		active := 0
		for _, a := range r.list(t) {
			if a.State == api.Active {
				active++
			}
		}
		return active == n
	})
}

// checkAdopted looks at how the pods are attached.
func (r *rig) checkAdopted(t *testing.T, n *chain.Network, pods ...*chain.Pod) {
	t.Helper()
	attached := r.list(t)
	for _, p := range pods {
		i := slices.IndexFunc(attached, func(a api.Attachment) bool { return a.Key == p.Key() })
		if i < 0 {
			t.Errorf("pod %s is not attached", p.Name)
			continue
		}
		got := attached[i]
		pod := api.Pod{Namespace: p.Namespace, Name: p.Name, UID: "uid-of-" + p.Name}
		if got.Origin != api.OriginAdopted || got.Network != n.Name() || got.Pod != pod ||
			got.Netns.Path != p.NetNS.Path() {
			t.Errorf("pod %s is attached as %+v", p.Name, got)
		}
	}
}

// readdress gives the pod another address than its runtime knows.
func readdress(t *testing.T, p *chain.Pod, address string) {
	t.Helper()
	err := p.NetNS.Try(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if err := netlink.AddrDel(link, &a); err != nil {
				return err
			}
		}
		addr, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		return netlink.AddrAdd(link, addr)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// mountOver puts another netns where a pod's was.
func mountOver(t *testing.T, ns, where *nstest.NetNS) {
	t.Helper()
	if err := unix.Unmount(where.Path(), unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(ns.Path(), where.Path(), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
}

// flow is a stream of numbered datagrams from one pod to another.
type flow struct {
	sink *net.UDPConn
	stop chan struct{}
	sent chan int
}

// A flow has 20,000 datagrams a second where the machine is quick enough, and
// no fewer than atLeast in all.
const (
	flowInterval = 50 * time.Microsecond
	atLeast      = 2000
)

// startFlow returns when the flow runs.
func startFlow(t *testing.T, from, to *chain.Pod) *flow {
	t.Helper()
	f := &flow{
		sink: to.NetNS.ListenUDP(t, address(to.IPv4), nstest.ReceiveBuffer(16<<20)),
		stop: make(chan struct{}), sent: make(chan int, 1),
	}
	conn := from.NetNS.DialUDP(t, address(to.IPv4))
	running := make(chan struct{})
	go func() {
		defer conn.Close() // a socket holds its netns
		f.sent <- send(t, conn, running, f.stop)
	}()
	<-running
	return f
}

// send sends numbered datagrams until it is stopped, and returns how many.
func send(t *testing.T, conn *net.UDPConn, running chan<- struct{}, stop <-chan struct{}) int {
	tick := time.NewTicker(flowInterval)
	defer tick.Stop()
	b := make([]byte, 64)
	for n := 0; ; n++ {
		select {
		case <-stop:
			if n >= atLeast {
				return n
			}
		default:
		}
		<-tick.C
		if n == 1 {
			close(running)
		}
		binary.BigEndian.PutUint32(b, uint32(n))
		if _, err := conn.Write(b); err != nil {
			t.Errorf("send datagram %d: %v", n, err)
		}
	}
}

// expectNoLoss ends the flow and looks for every datagram of it.
func (f *flow) expectNoLoss(t *testing.T) {
	t.Helper()
	close(f.stop)
	sent := <-f.sent
	if missing := missingNumbers(t, f.sink, sent); len(missing) > 0 {
		t.Errorf("%d of %d datagrams lost: %v", len(missing), sent, missing)
	}
	_ = f.sink.Close()
	t.Logf("%d datagrams around the adoption", sent)
}
