// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package damage

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// TestStorm is a node that starts, and is drained, with all its pods at once.
// The plugin is real; what the plugins before it would have done is in its
// prevResult.
func TestStorm(t *testing.T) {
	const rounds, drift = 3, 0.1
	pods := often(250)
	// Whether a page that is touched becomes 2 MiB is the kernel's affair.
	nstest.Must(t, unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0))
	r := newRig(t, api.Fail)
	r.start()
	var netns []*nstest.NetNS
	for range pods {
		netns = append(netns, nstest.New(t))
	}
	var first chain.Usage
	for round := range rounds {
		began := time.Now()
		r.storm("ADD", round, netns)
		added := time.Since(began)
		if s := r.status(); s.Attachments != pods || len(s.Problems) > 0 {
			t.Fatalf("%d attachments, problems %v", s.Attachments, s.Problems)
		}
		began = time.Now()
		r.storm("DEL", round, netns)
		nstest.Eventually(t, patience, "all pods are detached", func() bool {
			return r.status().Attachments == 0
		})
		t.Logf("round %d: %d ADD in %v, %d DEL in %v", round+1, pods, added, pods, time.Since(began))
		if round == 0 {
			// What the first storm needs at once, such as threads, is kept.
			first = r.usageAtRest()
			t.Logf("at rest: %d KiB, %d descriptors", first.ResidentKiB, len(first.Files))
			continue
		}
		r.wantUsage(first, drift)
	}
	files, err := os.ReadDir(filepath.Join(r.dir, "attachments"))
	nstest.Must(t, err)
	if len(files) != 0 {
		t.Errorf("%d state files are left", len(files))
	}
	for _, ns := range netns {
		if rules := ns.Run(t, "nft", "list", "ruleset"); rules != "" {
			t.Fatalf("rules are left: %s", rules)
		}
	}
}

// usageAtRest waits until the daemon has given back what it does not need, which
// it does a second after the last pod has gone.
func (r *rig) usageAtRest() chain.Usage {
	r.t.Helper()
	const steady = 2 * time.Second
	pid, since := r.status().PID, time.Now()
	var least chain.Usage
	nstest.Eventually(r.t, patience, "memory is at rest", func() bool {
		u, err := chain.UsageOf(pid)
		nstest.Must(r.t, err)
		if least.ResidentKiB == 0 || u.ResidentKiB < least.ResidentKiB {
			least, since = u, time.Now()
		}
		return time.Since(since) > steady
	})
	return least
}

// wantUsage expects the daemon to come back to what it held.
func (r *rig) wantUsage(want chain.Usage, drift float64) {
	r.t.Helper()
	pid := r.status().PID
	var u chain.Usage
	back := nstest.Poll(patience, func() bool {
		var err error
		u, err = chain.UsageOf(pid)
		nstest.Must(r.t, err)
		return len(u.Files) <= len(want.Files) &&
			float64(u.ResidentKiB) <= float64(want.ResidentKiB)*(1+drift)
	})
	if !back {
		r.t.Errorf("the daemon holds %d KiB and %d descriptors, want %d KiB ± %.0f %% and %d",
			u.ResidentKiB, len(u.Files), want.ResidentKiB, 100*drift, len(want.Files))
	}
}

// storm calls the plugin for all pods at once.
func (r *rig) storm(command string, round int, netns []*nstest.NetNS) {
	r.t.Helper()
	var calls sync.WaitGroup
	for i, ns := range netns {
		calls.Go(func() {
			if err := r.call(command, fmt.Sprintf("storm%d-%d", round, i), ns.Path()); err != nil {
				r.t.Error(err)
			}
		})
	}
	calls.Wait()
}

// call runs the plugin as a runtime does.
func (r *rig) call(command, id, netns string) error {
	cmd := exec.Command(filepath.Join(r.bin, "nsqueue"))
	cmd.Env = []string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + id, "CNI_NETNS=" + netns,
		"CNI_IFNAME=eth0", "CNI_PATH=" + r.bin,
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=" + id,
	}
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "storm",
		"type": "nsqueue", "socket": %q, "failurePolicy": %q,
		"prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.1.2.3/24"}]}}`,
		r.socket(), r.policy))
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s%s", command, id, err, out.String(), log.String())
	}
	// On a busy machine the daemon's turn may come later than the plugin can wait.
	late := command == "DEL" && strings.Contains(log.String(), "DEL spooled")
	if log.Len() > 0 && !late {
		return fmt.Errorf("%s %s: the plugin complains: %s", command, id, log.String())
	}
	return nil
}
