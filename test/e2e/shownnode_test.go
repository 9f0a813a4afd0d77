// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// Names that the documentation uses.
const (
	shownPod       = "busybox1"
	shownContainer = "0fd31c8e5a2b"
	shownNetns     = "/run/netns/vpn"
	confDir        = "/etc/cni/net.d"
)

// buildShownInspector builds the nsqueued of the node, of the version that the other
// programs are.
func buildShownInspector(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "inspector")
	version := strings.Fields(run(t, filepath.Join(binDir(t), "nsqueued"), "--version"))[1]
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", program, "-ldflags",
		"-X github.com/nsqueue/nsqueue/daemon/api.version="+version, "./test/e2e/inspector")
	build.Dir = repository
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the inspector: %v\n%s", err, out)
	}
	return program
}

// startShownNode sets up what the documentation is about: nsqueued with an
// inspector under a supervisor, nsqueue in flannel's chain, the pods that
// talk, one that is older, and a netns that no CNI plugin made.
func startShownNode(t *testing.T, inspector string) {
	t.Helper()
	d := chain.NewDaemon(chain.DaemonConfig{
		Bin: binDir(t),
		Wrap: []string{
			filepath.Join(binDir(t), "nsqueued"), "supervise", "--worker", inspector, "--",
		},
	})
	stock := writeStockList(t)
	playRuntime(t)
	openShown(t, stock).older(t)
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(d.Log.String())
		}
	})
	run(t, filepath.Join(binDir(t), "nsqueuectl"), "install")
	openShown(t, stock).pods(t)
	bindNetns(t, nstest.New(t))
	before, err := d.Client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The next daemon takes over, which is an event.
	if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	nstest.Eventually(t, patience, "the next daemon answers", func() bool {
		s, err := d.Client.Status(t.Context())
		return err == nil && s.PID != 0 && s.PID != before.PID
	})
}

// shownNetwork is a network as its file is now.
type shownNetwork struct{ *chain.Network }

func openShown(t *testing.T, file string) shownNetwork {
	t.Helper()
	n, err := chain.Open(chain.Config{Conflist: file, Bin: binDir(t), Stderr: &chain.Log{}})
	if err != nil {
		t.Fatal(err)
	}
	return shownNetwork{n}
}

// older makes the pod that was there before nsqueue.
func (n shownNetwork) older(t *testing.T) { newPod(t, n.Network, "older") }

// pods makes those that talk: datagrams to a name server, which wants none, a
// connection to an echo server, and attempts to use telnet, which the inspector
// drops.
func (n shownNetwork) pods(t *testing.T) {
	t.Helper()
	a := newPod(t, n.Network, shownPod)
	b, err := n.Pod("busybox2", nil)
	if err != nil {
		t.Fatal(err)
	}
	b.SetID(shownContainer + b.ID[len(shownContainer):])
	t.Cleanup(func() { remove(t, b) })
	if err := b.Add(t.Context()); err != nil {
		t.Fatal(err)
	}
	dns := a.NetNS.DialUDP(t, netip.AddrPortFrom(b.IPv4, 53).String())
	telnet := a.NetNS.DialUDP(t, netip.AddrPortFrom(b.IPv4, 23).String())
	b.NetNS.ListenUDP(t, netip.AddrPortFrom(b.IPv4, 53).String())
	server := b.NetNS.ListenTCP(t, address(b.IPv4))
	tcp := a.NetNS.DialTCP(t, address(b.IPv4))
	accepted, err := server.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = accepted.Close() })
	everyMillisecond(t, func() {
		for _, c := range []interface{ Write([]byte) (int, error) }{dns, telnet, tcp} {
			// No program need read them.
			_, _ = fmt.Fprint(c, "x")
		}
	})
}

// everyMillisecond calls do until the test ends.
func everyMillisecond(t *testing.T, do func()) {
	t.Helper()
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				do()
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		running.Wait()
	})
}

// writeStockList puts flannel's list without our entry to where runtimes look for
// it, and removes all else there and what was installed.
func writeStockList(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{confDir, "/opt/cni/bin"} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var list struct {
		Name       string           `json:"name"`
		CNIVersion string           `json:"cniVersion"`
		Plugins    []map[string]any `json:"plugins"`
	}
	b, err := os.ReadFile(filepath.Join(repository, "conflist", flannelList))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	list.Plugins = list.Plugins[:len(list.Plugins)-1] // ours, says the list's own test
	if b, err = json.MarshalIndent(list, "", "  "); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(confDir, flannelList)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// playRuntime reads the configurations again and again, which is what installing
// waits for.
func playRuntime(t *testing.T) {
	t.Helper()
	everyMillisecond(t, func() { _, _ = os.ReadFile(filepath.Join(confDir, flannelList)) })
}

// bindNetns gives the netns the name that the documentation uses.
func bindNetns(t *testing.T, ns *nstest.NetNS) {
	t.Helper()
	if err := os.WriteFile(shownNetns, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(ns.Path(), shownNetns, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(shownNetns, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
		if err := os.Remove(shownNetns); err != nil {
			t.Error(err)
		}
	})
}
