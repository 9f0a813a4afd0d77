// SPDX-License-Identifier: Apache-2.0

//go:build netns

package adopt

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// The addresses of the pods that [nstest.Pair] makes.
const (
	first  = "10.99.0.1/24 fd99::1/64"
	second = "10.99.0.2/24 fd99::2/64"
)

// node is what a scan looks at.
type node struct {
	Options
	attached []api.Attachment
}

func newNode(t testing.TB) *node {
	t.Helper()
	return &node{Options: Options{
		NetnsDirs: []string{"/run/netns", "/no/such/directory"},
		CacheDir:  t.TempDir(), FailurePolicy: api.Ignore,
	}}
}

// remember writes the record of a pod in the default namespace; one without a
// path is as older runtimes write it.
func (n *node) remember(t testing.TB, id, path, addresses string, change ...func(map[string]any)) {
	t.Helper()
	ips := []map[string]any{}
	for a := range strings.FieldsSeq(addresses) {
		ips = append(ips, map[string]any{"address": a, "interface": 0})
	}
	file := map[string]any{
		"kind": "cniCacheV1", "containerId": id, "ifName": "eth0", "networkName": "cbr0",
		"config": []byte(stockConfig),
		"cniArgs": [][2]string{
			{"K8S_POD_NAMESPACE", "default"},
			{"K8S_POD_NAME", "pod-" + id},
		},
		"result": map[string]any{
			"interfaces": []map[string]string{{"name": "eth0", "sandbox": path}}, "ips": ips,
		},
	}
	if path != "" {
		file["netns"] = path
	}
	for _, c := range change {
		c(file)
	}
	b, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	n.write(t, fmt.Sprintf("cbr0-%s-%s", id, file["ifName"]), b, 0o600)
}

func (n *node) write(t testing.TB, name string, b []byte, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(n.CacheDir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// scan returns a line for each finding, in order.
func (n *node) scan(t *testing.T) []string {
	t.Helper()
	found, err := Scan(n.Options, n.attached)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, c := range found.Candidates {
		lines = append(lines, fmt.Sprintf("%s: candidate %s %s %s",
			c.Request.ContainerID, c.Netns.Path, c.Request.Pod, c.Request.FailurePolicy))
	}
	for _, r := range found.Others {
		lines = append(lines, fmt.Sprintf("%s: %s: %s",
			cmp.Or(r.ContainerID, r.Netns.Path), r.Outcome, r.Reason))
	}
	slices.Sort(lines)
	return lines
}

// expect wants these findings; a line may be the beginning of one.
func (n *node) expect(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	got := n.scan(t)
	same := slices.EqualFunc(got, want, func(g, w string) bool { return strings.HasPrefix(g, w) })
	if !same {
		t.Errorf("found\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// attach claims an interface under a key.
func (n *node) attach(t *testing.T, id string, ns *nstest.NetNS) {
	t.Helper()
	identified, err := netns.FromFile(ns.File(t))
	if err != nil {
		t.Fatal(err)
	}
	defer identified.Close()
	n.attached = append(n.attached, api.Attachment{
		Key: api.Key{ContainerID: id, Ifname: "eth0"}, Netns: api.Netns{Cookie: identified.ID().Cookie},
	})
}

func TestNothingThere(t *testing.T) {
	n := newNode(t)
	n.CacheDir = "/no/such/cache"
	n.expect(t)
}

func TestFindByPath(t *testing.T) {
	n := newNode(t)
	a, b := nstest.Pair(t)
	n.remember(t, "a", a.Path(), first)
	n.remember(t, "b", b.Path(), second, func(file map[string]any) { file["config"] = []byte(oursConfig) })
	n.expect(t,
		"a: candidate "+a.Path()+" default/pod-a Ignore",
		"b: candidate "+b.Path()+" default/pod-b Fail")
}

// A netns that is mounted where no scan looks is found all the same.
func TestFindByPathElsewhere(t *testing.T) {
	n := newNode(t)
	a, b := nstest.Pair(t)
	n.NetnsDirs = nil
	n.remember(t, "a", fmt.Sprintf("/proc/self/fd/%d", a.File(t).Fd()), first)
	n.expect(t, "a: candidate /proc/self/fd/")
	n.NetnsDirs = []string{"/run/netns", "/run/../run/netns"}
	n.remember(t, "b", b.Path(), second)
	n.expect(t, "a: candidate "+a.Path(), "b: candidate "+b.Path())
}

func TestFindByAddress(t *testing.T) {
	n := newNode(t)
	a, b := nstest.Pair(t)
	n.remember(t, "a", "", first)
	n.remember(t, "c", "", "10.99.0.3/24")
	n.expect(t,
		"a: candidate "+a.Path(),
		"c: skipped: no netns has 10.99.0.3 on eth0",
		b.Path()+": unknown")
}

func TestNotVerified(t *testing.T) {
	n := newNode(t)
	a, b := nstest.Pair(t)
	bare := nstest.New(t)
	n.remember(t, "other", a.Path(), second)
	n.remember(t, "fewer", b.Path(), "10.99.0.2/24")
	n.remember(t, "bare", bare.Path(), "10.99.0.7/24")
	n.remember(t, "gone", "/run/netns/gone", first)
	n.remember(t, "none", a.Path(), "")
	n.expect(t,
		"other: skipped: eth0 in "+a.Path()+
			" has 10.99.0.1, fd99::1, the cached result has 10.99.0.2, fd99::2",
		"fewer: skipped: eth0 in "+b.Path()+" has 10.99.0.2, fd99::2, the cached result has 10.99.0.2",
		"bare: skipped: there is no interface eth0 in "+bare.Path(),
		"gone: skipped: no netns is at /run/netns/gone any more",
		"none: skipped: the cached result has no address of eth0")
}

func TestAmbiguous(t *testing.T) {
	n := newNode(t)
	a, _ := nstest.Pair(t)
	b, other := nstest.Pair(t) // the addresses of the first pair
	n.remember(t, "a", "", first)
	n.remember(t, "b", other.Path(), second)
	n.remember(t, "c", other.Path(), second)
	lines := n.scan(t)
	if len(lines) != 4 || !strings.HasPrefix(lines[1], "a: skipped: ambiguous: 10.99.0.1, fd99::1 is in ") ||
		!strings.Contains(lines[1], a.Path()) || !strings.Contains(lines[1], b.Path()) {
		t.Errorf("found %q", lines)
	}
	for i, id := range []string{"b", "c"} {
		want := id + ": skipped: ambiguous: 2 cached results are about eth0 in " + other.Path()
		if lines[2+i] != want {
			t.Errorf("found %q, want %q", lines[2+i], want)
		}
	}
}

// A record that names the netns beats what an old one, of a pod that once had
// the address, is found by.
func TestNamedBeatsFound(t *testing.T) {
	n := newNode(t)
	a, b := nstest.Pair(t)
	n.remember(t, "new", a.Path(), first)
	n.remember(t, "old", "", first)
	n.remember(t, "b", b.Path(), second)
	n.expect(t, "b: candidate", "new: candidate",
		"old: skipped: the netns "+a.Path()+" is that of container new")
}

func TestNodesNetnsIsNoPods(t *testing.T) {
	n := newNode(t)
	path := filepath.Join("/run/netns", "default")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Unmount(path, unix.MNT_DETACH)
		_ = os.Remove(path)
	})
	// An unmounted netns leaves such a file behind.
	n.expect(t)
	if err := unix.Mount("/proc/self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	n.remember(t, "a", "/proc/self/ns/net", first)
	n.remember(t, "b", path, first)
	n.remember(t, "c", "/proc/self/ns/uts", first)
	n.expect(t,
		"a: skipped: /proc/self/ns/net is no pod's netns",
		"b: skipped: "+path+" is no pod's netns",
		"c: skipped: no netns is at /proc/self/ns/uts any more")
}

func TestAttachedBefore(t *testing.T) {
	n := newNode(t)
	a, b := nstest.Pair(t)
	c, _ := nstest.Pair(t)
	n.remember(t, "a", a.Path(), first)
	n.remember(t, "b", b.Path(), second)
	n.attach(t, "a", a)
	n.attach(t, "by-hand", b)
	n.attach(t, "c", c)
	lines := n.scan(t)
	want := []string{
		"a: already attached: ",
		"b: skipped: its netns is attached already, as by-hand/eth0",
	}
	if len(lines) != 3 || !slices.Equal(lines[1:], want) || !strings.Contains(lines[0], ": unknown: ") {
		t.Errorf("found %q, want %q and one unknown netns", lines, want)
	}
}

func TestTreatment(t *testing.T) {
	annotate := func(name, value string) func(map[string]any) {
		return func(file map[string]any) {
			file["capabilityArgs"] = map[string]any{
				"io.kubernetes.cri.pod-annotations": map[string]string{"nsqueue.io/" + name: value},
			}
		}
	}
	ours := func(file map[string]any) { file["config"] = []byte(oursConfig) }
	in := func(namespace string) func(map[string]any) {
		return func(file map[string]any) {
			file["cniArgs"] = [][2]string{{"K8S_POD_NAMESPACE", namespace}}
		}
	}
	for name, test := range map[string]struct {
		change []func(map[string]any)
		want   string
	}{
		"plain":              {nil, "candidate /run/netns/PATH default/pod-a Ignore"},
		"daemon excludes":    {[]func(map[string]any){in("private")}, "skipped: namespace private is excluded"},
		"entry excludes":     {[]func(map[string]any){ours, in("kube-system")}, "skipped: namespace kube-system is excluded"},
		"stock does not":     {[]func(map[string]any){in("kube-system")}, "candidate"},
		"pod raises":         {[]func(map[string]any){in("private"), annotate("inspect", "true")}, "candidate"},
		"pod raises policy":  {[]func(map[string]any){annotate("failure-policy", "Fail")}, "candidate /run/netns/PATH default/pod-a Fail"},
		"pod lowers":         {[]func(map[string]any){ours, annotate("inspect", "false")}, "skipped: its annotations ask"},
		"pod may not":        {[]func(map[string]any){annotate("inspect", "false")}, "candidate"},
		"pod may not policy": {[]func(map[string]any){ours, annotate("failure-policy", "Ignore")}, "candidate /run/netns/PATH default/pod-a Fail"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.ExcludeNamespaces = []string{"private"}
			a, b := nstest.Pair(t)
			n.remember(t, "a", a.Path(), first, test.change...)
			want := strings.Replace(test.want, "/run/netns/PATH", a.Path(), 1)
			n.expect(t, "a: "+want, b.Path()+": unknown: no cached result")
		})
	}
}

// The configuration that a pod was made with says which annotations are passed on.
func TestAnnotationsOfAdopted(t *testing.T) {
	n := newNode(t)
	a, b := nstest.Pair(t)
	all := map[string]string{"nsqueue.io/profile": "sandbox", "team": "x"}
	annotated := func(file map[string]any) {
		file["capabilityArgs"] = map[string]any{"io.kubernetes.cri.pod-annotations": all}
	}
	n.remember(t, "a", a.Path(), first, annotated)
	n.remember(t, "b", b.Path(), second, annotated, func(file map[string]any) {
		file["config"] = []byte(`{"plugins":[{"type":"nsqueue","passAnnotations":["team"]}]}`)
	})
	found, err := Scan(n.Options, nil)
	if err != nil || len(found.Candidates) != 2 {
		t.Fatalf("%+v, %v", found, err)
	}
	for _, c := range found.Candidates {
		want := map[string]string{"nsqueue.io/profile": "sandbox"}
		if c.Request.ContainerID == "b" {
			want = map[string]string{"team": "x"}
		}
		if got := c.Request.Annotations; !maps.Equal(want, got) {
			t.Errorf("%s has %v, want %v", c.Request.ContainerID, got, want)
		}
	}
}

func TestCacheFiles(t *testing.T) {
	n := newNode(t)
	n.remember(t, "lo", "/run/netns/x", "127.0.0.1/8", func(file map[string]any) { file["ifName"] = "lo" })
	n.write(t, "bare-result", []byte(`{"cniVersion":"0.3.1"}`), 0o600)
	n.write(t, "open", []byte(`{}`), 0o666)
	n.write(t, "large", make([]byte, maxRecord+1), 0o600)
	n.write(t, "foreign", []byte(`{}`), 0o600)
	if err := os.Mkdir(filepath.Join(n.CacheDir, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(n.CacheDir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("bare-result", filepath.Join(n.CacheDir, "link")); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"bare-result: kind \"\"", "directory: not a regular file", "fifo: not a regular file",
		"foreign: kind \"\"", "large: larger than 1048576 bytes",
		"link: open " + filepath.Join(n.CacheDir, "link") + ": too many levels",
		"open: others may write to it (mode 0666)",
	}
	// Only root can give a file away, and only inside its user namespace.
	if os.Chown(filepath.Join(n.CacheDir, "foreign"), 65534, -1) == nil {
		want[3] = "foreign: it belongs to user 65534: want root"
	}
	for i := range want {
		want[i] = ": skipped: cached result " + filepath.Join(n.CacheDir, want[i])
	}
	n.expect(t, want...)
}

// readdress changes the addresses of eth0.
func readdress(
	t *testing.T, ns *nstest.NetNS, change func(netlink.Link, *netlink.Addr) error, address string,
) {
	t.Helper()
	err := ns.Try(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		return change(link, addr)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenVerifiesAgain(t *testing.T) {
	n := newNode(t)
	a, b := nstest.Pair(t)
	n.remember(t, "a", a.Path(), first)
	candidate := func() *Candidate {
		t.Helper()
		found, err := Scan(n.Options, nil)
		if err != nil || len(found.Candidates) != 1 {
			t.Fatalf("scan: %+v, %v", found, err)
		}
		return &found.Candidates[0]
	}
	refused := func(c *Candidate, mentions string) {
		t.Helper()
		if f, err := c.Open(); err == nil || !strings.Contains(err.Error(), mentions) {
			t.Errorf("open: %v, %v; want an error that mentions %q", f, err, mentions)
		}
	}
	c := candidate()
	f, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	wantInfo, err := a.File(t).Stat()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || !os.SameFile(info, wantInfo) {
		t.Errorf("open: %v, %v, want %v", info, err, wantInfo)
	}

	readdress(t, a, netlink.AddrAdd, "10.99.0.9/24")
	refused(c, "has 10.99.0.1, 10.99.0.9, fd99::1")
	readdress(t, a, netlink.AddrDel, "10.99.0.9/24")

	c = candidate()
	if err := unix.Unmount(a.Path(), unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	refused(c, "no netns is at")
	if err := unix.Mount(b.Path(), a.Path(), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	refused(c, "another netns is at")
}

// BenchmarkScan looks through 200 netns, of which each second one is a pod's.
func BenchmarkScan(b *testing.B) {
	const pods = 100
	n := newNode(b)
	for i := range pods {
		pod, _ := nstest.Pair(b)
		n.remember(b, fmt.Sprintf("pod%d", i), pod.Path(), first)
	}
	for b.Loop() {
		found, err := Scan(n.Options, nil)
		if err != nil || len(found.Candidates) != pods || len(found.Others) != pods {
			b.Fatalf("%d candidates, %d others, %v", len(found.Candidates), len(found.Others), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*2*pods), "µs/netns")
}

// wantMissing expects that the scan names what it could not look at, and these
// words about it.
func (n *node) wantMissing(t *testing.T, want ...string) {
	t.Helper()
	found, err := Scan(n.Options, n.attached)
	if err != nil {
		t.Fatal(err)
	}
	same := slices.EqualFunc(found.Missing, want, strings.Contains)
	if !same {
		t.Errorf("missing\n\t%s\nwant\n\t%s", strings.Join(found.Missing, "\n\t"),
			strings.Join(want, "\n\t"))
	}
}

// A daemon in a container without the node's directories says that it sees
// nothing, and not that there is nothing.
func TestMissingIsNamed(t *testing.T) {
	n := newNode(t)
	n.wantMissing(t, "no pod's netns was found in /run/netns")
	n.CacheDir = "/no/such/cache"
	n.wantMissing(t,
		"mount the node's /no/such/cache there",
		"/no/such/directory (no such directory); if nsqueued runs in a container")
	nstest.New(t)
	n.wantMissing(t, "no CNI result was found: no such directory")
	n.CacheDir = t.TempDir()
	n.wantMissing(t)
}

// The node's paths lead nowhere in a container that has them mounted elsewhere, or
// that has /run/netns and no /var/run.
func TestFindAtOtherPaths(t *testing.T) {
	n := newNode(t)
	a, b := nstest.Pair(t)
	n.remember(t, "a", "/node/netns/"+filepath.Base(a.Path()), first)
	n.remember(t, "b", "/node/netns/"+filepath.Base(b.Path()), second)
	n.remember(t, "c", "/node/netns/c", "10.99.0.3/24")
	n.expect(t, "a: candidate "+a.Path(), "b: candidate "+b.Path(),
		"c: skipped: no netns is at /node/netns/c any more, and no netns has 10.99.0.3 on eth0")
	n.remember(t, "new", b.Path(), second)
	n.expect(t, "a: candidate "+a.Path(), "new: candidate "+b.Path(),
		"b: skipped: the netns "+b.Path()+" is that of container new", "c: skipped")
	nstest.OwnDirectory(t, "/var") // as in an image that has no /var/run
	other, _ := nstest.Pair(t)
	n.remember(t, "var", "/var"+other.Path(), first)
	n.expect(t, "var: candidate "+other.Path(), "new: candidate",
		"a: skipped: no netns is at /node/netns/"+filepath.Base(a.Path())+" any more, and ambiguous",
		"b: skipped", "c: skipped")
}
