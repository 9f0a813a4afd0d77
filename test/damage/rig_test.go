// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package damage kills, stops, starves and floods the daemon under load, and
// counts what that costs the pods.
package damage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/damage/load"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// patience is how long a test waits for what should come at once; it only ends
// what hangs.
const patience = time.Minute

// rig is a supervisor with a daemon that stamps what it inspects.
type rig struct {
	t      *testing.T
	dir    string
	bin    string
	policy api.Policy
	client *api.Client
	log    chain.Log
	// watchdog is the supervisor's, 0 for its default.
	watchdog time.Duration
	// inspector is the daemon's program below bin.
	inspector string
	// args are further flags of it.
	args []string
	// more is added to the daemon's configuration.
	more string
	// worker is the path of a copy of it that is run; empty runs it where it is.
	worker string
	// maxDeaths within deathWindow make the supervisor give up, 0 never.
	maxDeaths   int
	deathWindow time.Duration
	// silence ends the traffic where something is missing, 0 for the load's own.
	silence time.Duration

	supervisor *exec.Cmd
	exited     chan error
}

const nsqueued = "nsqueued"

func newRig(t *testing.T, policy api.Policy) *rig {
	t.Helper()
	r := &rig{
		t: t, dir: t.TempDir(), bin: chain.BinDir(t, nsqueued, "test/stamper"), policy: policy,
		inspector:   filepath.Join("test", "stamper"),
		deathWindow: 300 * time.Millisecond,
	}
	r.client = api.NewClient(r.socket())
	t.Cleanup(r.end)
	return r
}

func (r *rig) socket() string { return filepath.Join(r.dir, "nsqueued.sock") }

// config has room for what comes in while no daemon reads, for 6 s and however
// many pods there are: the total is a limit, not memory that is taken. A machine
// that stands still for a second is no inspector that hangs.
const config = `apiVersion: nsqueue.io/v1alpha1
kind: DaemonConfiguration
socket: %[1]s/nsqueued.sock
stateDir: %[1]s
hook: nft
failurePolicy: %[2]s
inspectBudget: 1m
queue: {length: 60000, receiveBuffer: 67108864, receiveBufferTotal: 68719476736}
`

func (r *rig) configFile() string { return filepath.Join(r.dir, "nsqueued.yaml") }

func (r *rig) writeConfig() {
	r.t.Helper()
	text := []byte(fmt.Sprintf(config, r.dir, r.policy) + r.more)
	nstest.Must(r.t, os.WriteFile(r.configFile(), text, 0o600))
}

// start runs the supervisor and returns when the daemon answers.
func (r *rig) start() {
	r.t.Helper()
	r.writeConfig()
	argv := []string{
		"supervise", "--runtime-dir", r.dir,
		"--max-deaths", strconv.Itoa(r.maxDeaths), "--death-window", r.deathWindow.String(),
	}
	if r.inspector != nsqueued {
		worker := filepath.Join(r.bin, r.inspector)
		argv = append(argv, "--worker", cmp.Or(r.worker, worker))
	}
	if r.watchdog != 0 {
		argv = append(argv, "--watchdog", r.watchdog.String(), "--abort-grace", "100ms")
	}
	argv = append(append(argv, "--", "--config", r.configFile()), r.args...)
	cmd := exec.Command(filepath.Join(r.dir, nsqueued), argv...)
	nstest.Must(r.t, link(filepath.Join(r.bin, nsqueued), cmd.Path))
	cmd.Stdout, cmd.Stderr = &r.log, &r.log
	nstest.Must(r.t, cmd.Start())
	r.supervisor, r.exited = cmd, make(chan error, 1)
	go func() { r.exited <- cmd.Wait() }()
	r.awaitWorker(0)
}

// link makes the program appear at a path where an upgrade may replace it.
func link(program, path string) error {
	if err := os.Link(program, path); err == nil || errors.Is(err, os.ErrExist) {
		return nil
	}
	b, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o755)
}

// awaitWorker waits for a daemon that is another process than before, and
// returns its status.
func (r *rig) awaitWorker(before int) api.Status {
	r.t.Helper()
	var s api.Status
	nstest.Eventually(r.t, patience, "a daemon answers", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		var err error
		s, err = r.client.Status(ctx)
		return err == nil && s.PID != before
	})
	return s
}

func (r *rig) status() api.Status { return r.awaitWorker(0) }

// end stops everything, the daemon's attachments first.
func (r *rig) end() {
	if r.supervisor == nil {
		return
	}
	if _, err := r.client.DetachAll(context.Background()); err != nil {
		r.t.Error(err)
	}
	if err := r.stop(syscall.SIGTERM); err != nil {
		r.t.Errorf("supervisor: %v", err)
	}
	if r.t.Failed() {
		r.t.Logf("log:\n%s", tail(r.log.String(), 20000))
	}
}

func tail(s string, n int) string { return s[max(len(s)-n, 0):] }

// stop ends the supervisor by a signal and waits for it.
func (r *rig) stop(s syscall.Signal) error {
	nstest.Must(r.t, r.supervisor.Process.Signal(s))
	select {
	case err := <-r.exited:
		r.supervisor = nil
		return err
	case <-time.After(patience):
		_ = r.supervisor.Process.Kill()
		err := <-r.exited
		r.supervisor = nil
		return fmt.Errorf("still there %v after %v: %w", patience, s, err)
	}
}

// awaitEnd waits until the supervisor has ended by itself.
func (r *rig) awaitEnd() error {
	r.t.Helper()
	select {
	case err := <-r.exited:
		r.supervisor = nil
		return err
	case <-time.After(patience):
		r.t.Fatalf("the supervisor is still there after %v", patience)
		return nil
	}
}

// pod is a netns under inspection, and the peer that talks to it.
type pod struct {
	*nstest.NetNS

	peer *nstest.NetNS
	key  api.Key
}

// attach makes a pod with a peer, and has it inspected.
func (r *rig) attach(name string) *pod {
	r.t.Helper()
	return r.attachAs(api.Key{ContainerID: name, Ifname: "eth0"})
}

// attachAs does it for a pod whose interface may have another name.
func (r *rig) attachAs(key api.Key) *pod {
	r.t.Helper()
	p := &pod{key: key}
	p.NetNS, p.peer = nstest.Pair(r.t)
	if got := p.peer.Ping(r.t, p.IPv4(), 1, patience); got != 1 {
		r.t.Fatal("pod and peer do not know each other")
	}
	r.attachNetns(p.key, p.NetNS)
	return p
}

func (r *rig) attachNetns(key api.Key, ns *nstest.NetNS) {
	r.t.Helper()
	f := ns.File(r.t)
	defer f.Close()
	_, err := r.client.Attach(r.t.Context(), api.AttachRequest{
		Key: key, Origin: api.OriginManual, NetnsPath: ns.Path(), FailurePolicy: r.policy,
	}, f)
	nstest.Must(r.t, err)
}

// pods makes n pods.
func (r *rig) pods(n int) []*pod {
	r.t.Helper()
	var pods []*pod
	for i := range n {
		pods = append(pods, r.attach(fmt.Sprintf("pod%d", i)))
	}
	return pods
}

// underLoad does the damage while datagrams go to the pods at 30,000 a second
// in all, and returns what became of them.
func (r *rig) underLoad(pods []*pod, damage func()) load.Result {
	r.t.Helper()
	const rate = 30000
	var flows []*load.Flow
	var running sync.WaitGroup
	for _, p := range pods {
		to := p.ListenUDP(r.t, netip.AddrPortFrom(p.IPv4(), 0).String(),
			nstest.ReceiveBuffer(64<<20))
		f := load.NewFlow(p.peer.DialUDP(r.t, to.LocalAddr().String()), to, rate/len(pods))
		f.Silence = cmp.Or(r.silence, f.Silence)
		f.Window = load.QueueHolds
		flows = append(flows, f)
		running.Go(func() { r.check(f.Send()) })
		running.Go(func() { r.check(f.Receive()) })
	}
	damage()
	for _, f := range flows {
		f.Stop()
	}
	running.Wait()
	var sum load.Result
	for _, f := range flows {
		sum.Add(f.Result())
	}
	r.t.Log(sum)
	return sum
}

func (r *rig) check(err error) {
	if err != nil {
		r.t.Error(err)
	}
}

// wait lets a time of load pass; the damage is what a test waits for.
func wait(d time.Duration) { <-time.After(d) }

// often is n, how often a test damages something or how many pods there are, and a
// quarter of it in a short run.
func often(n int) int {
	if testing.Short() {
		return (n + 3) / 4
	}
	return n
}
