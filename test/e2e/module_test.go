// SPDX-License-Identifier: Apache-2.0

//go:build e2e && vmguest

package e2e

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// TestModuleIsUnloaded takes the module away from armed pods, which it refuses until it
// has been told that packets may pass uninspected. The daemon, which
// was not told which hook to use, arms nftables instead and says so; until then
// CHECK does not claim that the pods are inspected.
func TestModuleIsUnloaded(t *testing.T) {
	loader := chain.NewDaemon(chain.DaemonConfig{
		Bin: binDir(t), Socket: t.TempDir() + "/loader.sock", StateDir: t.TempDir(), Hook: "kmod",
	})
	if err := loader.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := loader.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Setenv(hookEnv, "auto")
	r := startRig(t, api.Fail)
	network := r.open(t, flannelList, "", api.Fail)
	a, b := newPod(t, network, "a"), newPod(t, network, "b")
	wantHook(t, r, "kmod")
	r.checkSeen(t, a, b)

	if err := unix.DeleteModule("nsqueue", 0); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("unload while pods are armed under Fail: %v", err)
	}
	const bypass = "/sys/module/nsqueue/parameters/queue_bypass"
	nstest.Must(t, os.WriteFile(bypass, []byte("1"), 0))
	nstest.Must(t, unix.DeleteModule("nsqueue", 0))
	unloaded := time.Now()
	checks := 0
	for r.Client.Check(t.Context(), a.Key()) != nil || r.Client.Check(t.Context(), b.Key()) != nil {
		checks++
		if time.Since(unloaded) > nstest.Patient(patience) {
			t.Fatal("the module was not replaced")
		}
	}
	t.Logf("replaced after %v, %d checks told the truth", time.Since(unloaded), checks)
	wantHook(t, r, "nft")
	r.checkSeen(t, a, b)
	if !r.Log.Contains("the hook vanished; the fallback took its place") {
		t.Error("the daemon does not report it")
	}
	freed, err := a.NetNS.Canary("canary")
	if err != nil {
		t.Fatal(err)
	}
	remove(t, a)
	nstest.Eventually(t, patience, "the kernel frees the netns", freed)
}

func wantHook(t *testing.T, r *rig, hook string) {
	t.Helper()
	for _, a := range r.list(t) {
		if a.Hook != hook {
			t.Errorf("%s has hook %s, want %s", a.Pod, a.Hook, hook)
		}
	}
}
