// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fault_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/fault"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

const (
	patience = time.Minute // only for what hangs
)

// daemon is an nsqueued that dies where it is told to, alone or with a
// supervisor that starts it again.
type daemon struct {
	t          *testing.T
	dir        string
	supervised bool
	client     *api.Client
	log        *os.File

	process *exec.Cmd
	exited  chan struct{}
}

func newDaemon(t *testing.T, supervised bool) *daemon {
	t.Helper()
	d := &daemon{t: t, dir: t.TempDir(), supervised: supervised}
	var err error
	d.log, err = os.Create(filepath.Join(d.dir, "log"))
	nstest.Must(t, err)
	d.client = api.NewClient(filepath.Join(d.dir, "nsqueued.sock"))
	t.Cleanup(d.end)
	return d
}

func (d *daemon) fault() string { return filepath.Join(d.dir, "fault") }

// start starts the process unless it runs, and returns when the daemon answers.
func (d *daemon) start() {
	d.t.Helper()
	if !d.running() {
		d.run()
	}
	nstest.Eventually(d.t, patience, "the daemon answers", func() bool {
		_, err := d.client.Status(context.WithoutCancel(d.t.Context()))
		return err == nil
	})
}

func (d *daemon) running() bool {
	if d.process == nil {
		return false
	}
	select {
	case <-d.exited:
		return false
	default:
		return true
	}
}

func (d *daemon) run() {
	d.t.Helper()
	hook := os.Getenv("NSQUEUE_HOOK")
	if hook == "" {
		hook = "auto"
	}
	args := []string{
		"--socket", filepath.Join(d.dir, "nsqueued.sock"), "--state-dir", d.dir, "--hook", hook,
	}
	if d.supervised {
		args = append([]string{
			"supervise", "--runtime-dir", d.dir, "--max-deaths", "0",
			"--death-window", "1ms", "--",
		}, args...)
	}
	const program = "test/nsqueued-faults"
	cmd := exec.Command(filepath.Join(chain.BinDir(d.t, program), program), args...)
	cmd.Env = append(os.Environ(), fault.Variable+"="+d.fault())
	cmd.Stdout, cmd.Stderr = d.log, d.log
	nstest.Must(d.t, cmd.Start())
	d.process, d.exited = cmd, make(chan struct{})
	go func(exited chan<- struct{}) {
		_ = cmd.Wait() // dying is what it is for
		close(exited)
	}(d.exited)
}

// arrange makes the daemon die at the point.
func (d *daemon) arrange(p fault.Point) {
	d.t.Helper()
	nstest.Must(d.t, os.WriteFile(d.fault(), []byte(p), 0o600))
}

// died reports whether the point was passed, and waits for the end of a daemon
// that is not started again.
func (d *daemon) died() bool {
	d.t.Helper()
	if _, err := os.Stat(d.fault()); err == nil {
		nstest.Must(d.t, os.Remove(d.fault()))
		return false
	}
	if !d.supervised {
		<-d.exited
	}
	return true
}

func (d *daemon) end() {
	if d.process == nil {
		return
	}
	_ = os.Remove(d.fault())
	d.start()
	if _, err := d.client.DetachAll(context.Background()); err != nil {
		d.t.Error(err)
	}
	nstest.Must(d.t, d.process.Process.Signal(syscall.SIGTERM))
	<-d.exited
	if d.t.Failed() {
		text, err := os.ReadFile(d.log.Name())
		d.t.Logf("%s\n%v", text, err)
	}
	nstest.Must(d.t, d.log.Close())
}

// pod is a netns, what is known of it, and what it may be attached as.
type pod struct {
	*nstest.NetNS

	peer *nstest.NetNS
	key  api.Key
}

func (d *daemon) attach(p *pod) error {
	f := p.File(d.t)
	defer f.Close()
	_, err := d.client.Attach(d.t.Context(), api.AttachRequest{
		Key: p.key, Origin: api.OriginManual, NetnsPath: p.Path(), FailurePolicy: api.Fail,
	}, f)
	return err
}

// attached reports whether the pod is attached, and fails if it is something in
// between.
func (d *daemon) attached(p *pod) bool {
	d.t.Helper()
	list, err := d.client.List(d.t.Context())
	nstest.Must(d.t, err)
	for _, a := range list.Attachments {
		if a.Key != p.key {
			continue
		}
		nstest.Must(d.t, d.client.Check(d.t.Context(), p.key))
		d.inspected(p)
		return true
	}
	d.gone(p)
	return false
}

func (d *daemon) inspected(p *pod) {
	d.t.Helper()
	count := func() uint64 {
		list, err := d.client.List(d.t.Context())
		nstest.Must(d.t, err)
		for _, a := range list.Attachments {
			if a.Key == p.key {
				return a.Counters.Packets
			}
		}
		return 0
	}
	before := count()
	if got := p.peer.Ping(d.t, p.IPv4(), 1, patience); got != 1 {
		d.t.Error("no reply although the pod is attached")
	}
	if count() < before+2 {
		d.t.Error("a ping was not inspected although the pod is attached")
	}
}

// gone expects nothing of ours in the netns or on the disk.
func (d *daemon) gone(p *pod) {
	d.t.Helper()
	if _, err := os.Stat(filepath.Join(d.dir, "attachments",
		p.key.ContainerID+"@"+p.key.Ifname+".json")); err == nil {
		d.t.Error("a state file is left")
	}
	var queues []byte
	nstest.Must(d.t, p.Try(func() error {
		var err error
		queues, err = os.ReadFile("/proc/thread-self/net/netfilter/nfnetlink_queue")
		return err
	}))
	if len(queues) > 0 {
		d.t.Errorf("a queue is left: %s", queues)
	}
	if rules := p.Run(d.t, "nft", "list", "ruleset"); rules != "" {
		d.t.Errorf("rules are left: %s", rules)
	}
	d.disarmed(p)
	if got := p.peer.Ping(d.t, p.IPv4(), 1, patience); got != 1 {
		d.t.Error("no reply although nothing is attached")
	}
}

// disarmed expects a module that is there to be told to let pass.
func (d *daemon) disarmed(p *pod) {
	d.t.Helper()
	var enabled []byte
	err := p.Try(func() error {
		var err error
		enabled, err = os.ReadFile("/proc/sys/net/nsqueue/enabled")
		return err
	})
	if err == nil && string(enabled) != "0\n" {
		d.t.Errorf("the module is still armed: %s", enabled)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		d.t.Error(err)
	}
}

// Whoever dies between any two steps, the next daemon makes it whole: the pod is
// attached or it is not. Either way, the same call again does what it says.
func TestNothingIsHalfAttached(t *testing.T) {
	for _, supervised := range []bool{false, true} {
		t.Run(map[bool]string{false: "alone", true: "supervised"}[supervised], func(t *testing.T) {
			d := newDaemon(t, supervised)
			d.start()
			for i, point := range fault.Attaching() {
				t.Run(string(point), func(t *testing.T) { d.sub(t).testAttach(i, point) })
			}
			for i, point := range fault.Detaching() {
				t.Run(string(point), func(t *testing.T) { d.sub(t).testDetach(i, point) })
			}
		})
	}
}

// sub lends the daemon to a subtest.
func (d *daemon) sub(t *testing.T) *daemon {
	t.Helper()
	outer := d.t
	d.t = t
	t.Cleanup(func() { d.t = outer })
	return d
}

func (d *daemon) pod(name string) *pod {
	d.t.Helper()
	p := &pod{key: api.Key{ContainerID: name, Ifname: "eth0"}}
	p.NetNS, p.peer = nstest.Pair(d.t)
	return p
}

func (d *daemon) testAttach(i int, point fault.Point) {
	p := d.pod(fmt.Sprintf("attach%d", i))
	d.arrange(point)
	err := d.attach(p)
	if !d.died() {
		d.wantUnpassed(point, err)
	} else if err == nil {
		d.t.Error("a daemon that died has answered")
	}
	d.start()
	d.attached(p)
	nstest.Must(d.t, d.attach(p))
	if !d.attached(p) {
		d.t.Error("called again, and not attached")
	}
	nstest.Must(d.t, d.client.Detach(d.t.Context(), p.key))
	d.gone(p)
}

// wantUnpassed expects a point that attaching does not pass with this hook.
func (d *daemon) wantUnpassed(point fault.Point, err error) {
	d.t.Helper()
	if point != fault.HookKept || os.Getenv("NSQUEUE_HOOK") != "kmod" || err != nil {
		d.t.Fatalf("the point was not passed, attach: %v", err)
	}
}

func (d *daemon) testDetach(i int, point fault.Point) {
	p := d.pod(fmt.Sprintf("detach%d", i))
	nstest.Must(d.t, d.attach(p))
	d.arrange(point)
	err := d.client.Detach(d.t.Context(), p.key)
	if !d.died() || err == nil {
		d.t.Fatalf("the point was not passed, detach: %v", err)
	}
	d.start()
	d.attached(p)
	nstest.Must(d.t, d.client.Detach(d.t.Context(), p.key))
	if d.attached(p) {
		d.t.Error("called again, and still attached")
	}
}
