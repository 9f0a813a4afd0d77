// SPDX-License-Identifier: Apache-2.0

// The tests of the CNI configurations in this directory, with the library that
// runtimes read them with.

package conflist

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// TestMain makes this binary a stand-in for the plugins before ours: libcni
// finds it under their names.
func TestMain(m *testing.M) {
	if command := os.Getenv("CNI_COMMAND"); command != "" {
		if err := standIn(command, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func standIn(command string, stdin io.Reader, stdout io.Writer) error {
	switch command {
	case "VERSION":
		return version.All.Encode(stdout)
	case "ADD":
		var conf struct {
			CNIVersion string          `json:"cniVersion"`
			PrevResult json.RawMessage `json:"prevResult"`
		}
		if err := json.NewDecoder(stdin).Decode(&conf); err != nil {
			return fmt.Errorf("decode config: %w", err)
		}
		if conf.PrevResult != nil {
			_, err := stdout.Write(conf.PrevResult)
			return err
		}
		address := `{"address":"10.244.0.2/24"}`
		if conf.CNIVersion < "1.0.0" {
			address = `{"version":"4","address":"10.244.0.2/24"}`
		}
		_, err := fmt.Fprintf(stdout, `{"cniVersion":%q,"ips":[%s]}`, conf.CNIVersion, address)
		return err
	}
	return nil
}

// examples has the configurations that come with nsqueue.
const examples = "../../conflist"

// files returns their paths.
func files(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(examples, "*.conflist"))
	if err != nil || len(paths) < 3 {
		t.Fatalf("configurations %v, %v; want at least 3", paths, err)
	}
	return paths
}

func TestNsqueueIsLast(t *testing.T) {
	for _, path := range files(t) {
		l, err := libcni.NetworkConfFromFile(path)
		if err != nil {
			t.Errorf("load %s: %v", path, err)
			continue
		}
		var chain []string
		for _, p := range l.Plugins {
			chain = append(chain, p.Network.Type)
		}
		if slices.Index(chain, "nsqueue") != len(chain)-1 || len(chain) < 2 {
			t.Errorf("%s: chain %v, want nsqueue once, last", path, chain)
		}
		if socket := entry(t, l).Socket; socket != api.DefaultSocket {
			t.Errorf("%s: socket %q, want %q", path, socket, api.DefaultSocket)
		}
	}
}

type nsqueueEntry struct {
	Socket        string
	FailurePolicy api.Policy
}

// entry returns our entry of a list.
func entry(t *testing.T, l *libcni.NetworkConfigList) nsqueueEntry {
	t.Helper()
	var e nsqueueEntry
	if err := json.Unmarshal(l.Plugins[len(l.Plugins)-1].Bytes, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// The flannel lists are flannel's own with our entry: nothing else changes for
// a cluster.
func TestFlannelIsStock(t *testing.T) {
	const stock = `{"name":"cbr0","cniVersion":"0.3.1","plugins":[` +
		`{"type":"flannel","delegate":{"hairpinMode":true,"isDefaultGateway":true}},` +
		`{"type":"portmap","capabilities":{"portMappings":true}}]}`
	var want map[string]any
	if err := json.Unmarshal([]byte(stock), &want); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"10-flannel.conflist", "10-flannel-fail.conflist"} {
		data, err := os.ReadFile(filepath.Join(examples, path))
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		plugins := got["plugins"].([]any)
		got["plugins"] = plugins[:len(plugins)-1]
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s without its last entry (-stock +got):\n%s", path, diff)
		}
	}
}

// binDir returns a directory with our real plugin, and stand-ins for others.
func binDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	plugin := filepath.Join(dir, "nsqueue")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", plugin, "../../plugin")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build plugin: %v\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"flannel", "bridge", "portmap"} {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A pod's life through each list, and through one of them at each version of the
// specification, with our real plugin and a daemon that only takes notes.
func TestChain(t *testing.T) {
	// The stand-ins exit many times; the race detector makes each wait a second.
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	c := chainTest{bin: binDir(t), netns: apitest.OtherNetns(t)}
	lists := files(t)
	for _, path := range lists {
		t.Run(filepath.Base(path), func(t *testing.T) { c.run(t, path, "") })
	}
	for _, cniVersion := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(cniVersion, func(t *testing.T) { c.run(t, lists[0], cniVersion) })
	}
}

// chainTest is what the runs of TestChain share.
type chainTest struct{ bin, netns string }

// run lives a pod's life with a list, at another version unless that is empty.
func (c chainTest) run(t *testing.T, path, cniVersion string) {
	t.Helper()
	var d apitest.Daemon
	l := load(t, path, cniVersion, d.Start(t))
	live(t, libcni.NewCNIConfigWithCacheDir([]string{c.bin}, t.TempDir(), nil), l, c.netns)

	attached := d.Attached()
	if len(attached) != 1 {
		t.Fatalf("%d attach calls, want 1", len(attached))
	}
	// The pod asked for Fail, which it always may.
	if a := attached[0]; a.FailurePolicy != api.Fail || a.Netns == nil ||
		a.Pod.String() != "default/web" || a.Network != l.Name {
		t.Errorf("attach request %+v", a)
	}
	if diff := cmp.Diff(wantCalls(l), d.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// load returns the list, at another version and with another socket.
func load(t *testing.T, path, cniVersion, socket string) *libcni.NetworkConfigList {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.ReplaceAll(data, []byte(api.DefaultSocket), []byte(socket))
	l, err := libcni.NetworkConfFromBytes(data)
	if err != nil {
		t.Fatal(err)
	}
	if cniVersion != "" {
		l.CNIVersion = cniVersion
	}
	return l
}

// live does with the list what a runtime does in a pod's life.
func live(t *testing.T, c *libcni.CNIConfig, l *libcni.NetworkConfigList, netns string) {
	t.Helper()
	ctx := t.Context()
	if _, err := c.ValidateNetworkList(ctx, l); err != nil {
		t.Fatalf("validate: %v", err)
	}
	if err := c.GetStatusNetworkList(ctx, l); err != nil {
		t.Errorf("status: %v", err)
	}
	rt := &libcni.RuntimeConf{
		ContainerID: "c0ffee", NetNS: netns, IfName: "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", "web"},
		},
		CapabilityArgs: map[string]any{
			"portMappings": []any{},
			"io.kubernetes.cri.pod-annotations": map[string]string{
				"nsqueue.io/failure-policy": "Fail", "other": "x",
			},
		},
	}
	result, err := c.AddNetworkList(ctx, l, rt)
	if err != nil {
		t.Fatalf("add: %v", err)
	}
	var b strings.Builder
	if err := result.PrintTo(&b); err != nil || !strings.Contains(b.String(), "10.244.0.2/24") {
		t.Errorf("result %s, %v; want the address of the first plugin", b.String(), err)
	}
	if l.CNIVersion >= "0.4.0" {
		if err := c.CheckNetworkList(ctx, l, rt); err != nil {
			t.Errorf("check: %v", err)
		}
	}
	valid := []types.GCAttachment{{ContainerID: "c0ffee", IfName: "eth0"}}
	if err := c.GCNetworkList(ctx, l, &libcni.GCArgs{ValidAttachments: valid}); err != nil {
		t.Errorf("gc: %v", err)
	}
	if err := c.DelNetworkList(ctx, l, rt); err != nil {
		t.Errorf("del: %v", err)
	}
	rt.NetNS = ""
	if err := c.DelNetworkList(ctx, l, rt); err != nil {
		t.Errorf("second del: %v", err)
	}
}

// wantCalls are the calls that reach the daemon, by the list's version.
func wantCalls(l *libcni.NetworkConfigList) []string {
	var calls []string
	if l.CNIVersion >= "1.1.0" {
		calls = append(calls, "status")
	}
	calls = append(calls, "attach c0ffee/eth0")
	if l.CNIVersion >= "0.4.0" {
		calls = append(calls, "check c0ffee/eth0")
	}
	if l.CNIVersion >= "1.1.0" {
		calls = append(calls, "collect "+l.Name)
	}
	return append(calls, "detach ended c0ffee/eth0", "detach ended c0ffee/eth0")
}
