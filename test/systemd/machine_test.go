// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package systemd

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/damage/load"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// Where the unit and its drop-in have things.
const (
	sbin       = "/usr/local/sbin"
	configFile = "/run/nsqueued.yaml"
	probeFile  = "/run/nsqueue-probe"
)

// config has room for what comes in while no daemon reads. Three queues and a
// table make four descriptors for each pod.
const config = `apiVersion: nsqueue.io/v1alpha1
kind: DaemonConfiguration
hook: nft
queue: {count: 3, length: 16384, receiveBuffer: 33554432, receiveBufferTotal: 68719476736}
`

// dropin has the settings, and what this machine may not be able to do: lowering
// the OOM score needs a capability that containers lack.
func dropin() string {
	return fmt.Sprintf(`[Unit]
DefaultDependencies=no
[Service]
ExecStart=
ExecStart=%s/nsqueued --config %s
ExecStartPost=%s %s
OOMScoreAdjust=0
`, sbin, configFile, probeFile, probeArg)
}

// machine is a systemd with the unit.
type machine struct {
	pid    int    // of systemd
	units  string // directory
	client *api.Client
}

// start installs nsqueued and its unit, and boots.
func start(t *testing.T) *machine {
	t.Helper()
	m := &machine{
		units: filepath.Join(t.TempDir(), "units"), client: api.NewClient(api.DefaultSocket),
	}
	nstest.Must(t, unix.Mount("tmpfs", sbin, "tmpfs", 0, "mode=755"))
	copyFile(t, filepath.Join(chain.BinDir(t, "nsqueued"), "nsqueued"), filepath.Join(sbin, "nsqueued"))
	copyFile(t, "/proc/self/exe", probeFile)
	nstest.Must(t, os.WriteFile(configFile, []byte(config), 0o644))
	nstest.Must(t, os.MkdirAll(m.dropins(), 0o755))
	copyFile(t, filepath.Join(unitDir, unitName), filepath.Join(m.units, unitName))
	nstest.Must(t, os.WriteFile(filepath.Join(m.dropins(), "test.conf"), []byte(dropin()), 0o644))
	m.pid = boot(t, m.units)
	m.await(t, 0)
	return m
}

func (m *machine) dropins() string { return filepath.Join(m.units, unitName+".d") }

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	nstest.Must(t, err)
	b, err := os.ReadFile(from)
	nstest.Must(t, err)
	nstest.Must(t, os.WriteFile(to, b, info.Mode()))
}

// command is one that runs in systemd's namespaces.
func (m *machine) command(argv ...string) *exec.Cmd {
	enter := append([]string{"-t", strconv.Itoa(m.pid), "-m", "-p", "--"}, argv...)
	return exec.Command("nsenter", enter...)
}

func (m *machine) run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := m.command(argv...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", argv, err, out)
	}
	return strings.TrimSpace(string(out))
}

// signal sends the daemon a signal.
func (m *machine) signal(t *testing.T, name string, pid int) {
	t.Helper()
	m.run(t, "kill", "-"+name, strconv.Itoa(pid))
}

// await waits for a daemon that is another process than before.
func (m *machine) await(t *testing.T, before int) api.Status {
	t.Helper()
	var s api.Status
	nstest.Eventually(t, patience, "a daemon answers", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var err error
		s, err = m.client.Status(ctx)
		return err == nil && s.PID != before
	})
	if s.Supervisor.Kind != api.Systemd {
		t.Errorf("the supervisor is %+v, want systemd", s.Supervisor)
	}
	return s
}

func (m *machine) status(t *testing.T) api.Status { t.Helper(); return m.await(t, 0) }

// stored asks systemd how many descriptors it keeps.
func (m *machine) stored(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(m.run(t, "systemctl", "show", "--value", "-p", "NFileDescriptorStore",
		unitName))
	nstest.Must(t, err)
	return n
}

// attach has the netns at a path inspected until the test ends. The daemon must
// find it there, in its own mounts.
func (m *machine) attach(t *testing.T, id, path string, policy api.Policy) api.Key {
	t.Helper()
	key := api.Key{ContainerID: id, Ifname: "eth0"}
	_, err := m.client.Attach(t.Context(), api.AttachRequest{
		Key: key, Origin: api.OriginManual, NetnsPath: path, FailurePolicy: policy,
	}, nil)
	nstest.Must(t, err)
	t.Cleanup(func() {
		check(t, m.client.Detach(context.Background(), key)) //nolint:usetesting // that has ended
	})
	return key
}

// packets returns how many packets of the attachment were inspected.
func (m *machine) packets(t *testing.T, key api.Key) uint64 {
	t.Helper()
	l, err := m.client.List(t.Context())
	nstest.Must(t, err)
	for _, a := range l.Attachments {
		if a.Key == key {
			return a.Counters.Packets
		}
	}
	t.Fatalf("no attachment %s", key)
	return 0
}

// inspects pings from the peer and fails unless the daemon saw it.
func (m *machine) inspects(t *testing.T, key api.Key, peer *nstest.NetNS, pod netip.Addr) {
	t.Helper()
	const pings = 3
	before := m.packets(t, key)
	if got := peer.Ping(t, pod, pings, patience); got != pings {
		t.Errorf("%d of %d pings of %s answered", got, pings, key)
	}
	nstest.Eventually(t, patience, "counters", func() bool {
		return m.packets(t, key) >= before+2*pings // each, and its answer
	})
}

// underLoad does the damage while datagrams go to the pod, and returns what
// became of them.
func underLoad(t *testing.T, pod, peer *nstest.NetNS, rate int, damage func()) load.Result {
	t.Helper()
	to := pod.ListenUDP(t, netip.AddrPortFrom(pod.IPv4(), 0).String(), nstest.ReceiveBuffer(64<<20))
	f := load.NewFlow(peer.DialUDP(t, to.LocalAddr().String()), to, rate)
	f.Window = load.QueueHolds
	var running sync.WaitGroup
	running.Go(func() { check(t, f.Send()) })
	running.Go(func() { check(t, f.Receive()) })
	stop := sync.OnceFunc(func() { f.Stop(); running.Wait() })
	defer stop()
	nstest.Eventually(t, patience, "traffic", func() bool { return f.Idle() < 100*time.Millisecond })
	damage()
	// The flow goes on for a while: what the next daemon does with it counts.
	<-time.After(300 * time.Millisecond)
	stop()
	t.Log(f.Result())
	return f.Result()
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}
