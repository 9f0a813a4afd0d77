// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/ctl/internal/doctor"
	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
	"github.com/nsqueue/nsqueue/internal/boottime"
	"github.com/nsqueue/nsqueue/internal/spool"
)

const version, release = "v1.2.3", "6.12.5-amd64"

// patient is a node on which everything is in order, until a test changes that.
type patient struct {
	t      *testing.T
	daemon apitest.Daemon
	doctor.Options
	state string
}

const goodChain = `{"name": "cbr0", "plugins": [{"type": "flannel"},
	{"type": "nsqueue", "socket": "SOCKET"}]}`

func newPatient(t *testing.T) *patient {
	t.Helper()
	p := &patient{t: t, state: t.TempDir()}
	p.Options = doctor.Options{
		Socket: apitest.SocketPath(t), BinDir: t.TempDir(), ConfDir: t.TempDir(), Proc: t.TempDir(),
		Root: t.TempDir(), Version: version, Now: boottime.Now,
	}
	key := api.Key{ContainerID: "0fd3", Ifname: "eth0"}
	p.daemon.Attachments = []api.Attachment{{
		Key: key, Pod: api.Pod{Namespace: "default", Name: "web"}, State: api.Active,
	}}
	p.daemon.Info = api.Status{
		Version: version, PID: os.Getpid(), StateDir: p.state, FailurePolicy: api.Ignore,
		Attachments: 1, Hook: api.HookStatus{Kind: "nft", Reason: "the module is not loaded"},
		Supervisor:  api.Supervisor{Kind: api.Systemd, PID: 1, Stored: 3, Capacity: 8192},
		Place:       &api.Place{PIDNamespace: api.OfNode, UserNamespace: api.OfNode},
		Descriptors: api.Descriptors{Open: 20, Limit: 65536, Room: 20000},
		Buffers: api.Buffers{
			Queues: 1, Wanted: 8 << 20, Each: 8 << 20, Total: 1 << 30, Possible: 8 << 20,
		},
	}
	p.daemon.Marked = api.MarkReport{MarkMask: 0xff000000, Netns: 1}
	p.write(filepath.Join(p.Proc, "sys/kernel/osrelease"), release+"\n")
	p.write(filepath.Join(p.Root, "boot/config-"+release), debianConfig)
	p.plugin("#!/bin/sh\necho nsqueue " + version + "\n")
	p.write(filepath.Join(p.ConfDir, "10-flannel.conflist"),
		strings.ReplaceAll(goodChain, "SOCKET", p.Socket))
	p.groups("0::/system.slice/nsqueued.service\n", "cgroup2 cgroup2 rw")
	return p
}

func (p *patient) plugin(script string) {
	p.t.Helper()
	p.write(filepath.Join(p.BinDir, "nsqueue"), script)
	if err := os.Chmod(filepath.Join(p.BinDir, "nsqueue"), 0o755); err != nil {
		p.t.Fatal(err)
	}
}

func (p *patient) write(path, text string) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// groups says in which control groups the daemon is, and of what kind the file
// system is.
func (p *patient) groups(groups, kind string) {
	p.t.Helper()
	pid := strconv.Itoa(os.Getpid())
	p.write(filepath.Join(p.Proc, pid, "status"), "Name:\tnsqueued\nNSpid:\t"+pid+"\n")
	p.write(filepath.Join(p.Proc, pid, "cgroup"), groups)
	p.write(filepath.Join(p.Proc, "self/mountinfo"), fmt.Sprintf(
		"23 1 0:20 / /proc rw - proc proc rw\n31 23 0:28 / %s rw,nosuid - %s\n", p.fs(), kind))
}

func (p *patient) fs() string { return filepath.Join(p.Proc, "cgroup") }

// examine returns the findings that have another result than OK, a line each.
func (p *patient) examine() (lines []string, report doctor.Report) {
	p.t.Helper()
	if _, err := os.Lstat(p.Socket); err != nil {
		l, err := api.Listen(p.Socket)
		if err != nil {
			p.t.Fatal(err)
		}
		p.daemon.Serve(p.t, l)
	}
	report = doctor.Examine(p.t.Context(), p.Options)
	places := strings.NewReplacer(p.Socket, "SOCKET", filepath.Dir(p.Socket), "RUN",
		p.BinDir, "BIN", p.ConfDir, "CONF", p.state, "STATE", p.fs(), "CGROUP",
		strconv.Itoa(os.Getpid()), "PID")
	for _, f := range report.Findings {
		if f.Result == doctor.OK {
			continue
		}
		if f.Remedy == "" && f.Result != doctor.Unknown {
			p.t.Errorf("no remedy: %+v", f)
		}
		lines = append(lines, places.Replace(
			fmt.Sprintf("%s %s %s: %s", f.Result, f.Check, f.Where, f.What)))
	}
	return lines, report
}

func (p *patient) want(lines ...string) {
	p.t.Helper()
	got, _ := p.examine()
	if diff := cmp.Diff(lines, got); diff != "" {
		p.t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestHealthy(t *testing.T) {
	p := newPatient(t)
	lines, report := p.examine()
	if len(lines) > 0 || report.Count(doctor.OK) != len(report.Findings) {
		t.Errorf("%q", lines)
	}
	checks := map[string]bool{}
	for _, f := range report.Findings {
		checks[f.Check] = true
	}
	if len(checks) != 21 {
		t.Errorf("checks %v, want 21", checks)
	}
}

// Whose the directory of the socket may be, beside root's, only a daemon tells.
func TestDaemonAway(t *testing.T) {
	p := newPatient(t)
	report := doctor.Examine(t.Context(), p.Options)
	want := []string{"wrong daemon " + p.Socket}
	if os.Geteuid() != 0 {
		want = append(want, "wrong permissions "+filepath.Dir(p.Socket))
	}
	var got []string
	for _, f := range report.Findings {
		if f.Result != doctor.OK {
			got = append(got, fmt.Sprintf("%s %s %s", f.Result, f.Check, f.Where))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestVersionsDiffer(t *testing.T) {
	p := newPatient(t)
	p.daemon.Change(func(s *api.Status) {
		s.Version = "v1.2.2"
	})
	p.plugin("#!/bin/sh\necho nsqueue v1.2.1\n")
	p.want("wrong versions SOCKET: nsqueued is v1.2.2, nsqueuectl v1.2.3",
		"wrong versions BIN/nsqueue: the plugin is v1.2.1, nsqueuectl v1.2.3")
}

// What versions do not tell is not wrong: an nsqueued of others, built with plain
// go build, may know none.
func TestVersionsUnclear(t *testing.T) {
	p := newPatient(t)
	p.daemon.Change(func(s *api.Status) {
		s.Version = "unknown"
	})
	p.plugin("#!/bin/sh\necho nsqueue abcdef0\n")
	p.want("unknown versions SOCKET: not compared: nsqueued is unknown, nsqueuectl v1.2.3",
		"unknown versions BIN/nsqueue: not compared: the plugin is abcdef0, nsqueuectl v1.2.3")
}

func TestPluginBroken(t *testing.T) {
	p := newPatient(t)
	p.plugin("#!/bin/sh\nexit 3\n")
	p.want("wrong versions BIN/nsqueue: the plugin does not run: exit status 3")
	p.plugin("#!/bin/sh\necho other 1\n")
	p.want("wrong versions BIN/nsqueue: the plugin does not run: " +
		`it prints "other 1\n" as its version`)
	p.write(filepath.Join(p.BinDir, "loopback"), "")
	if err := os.Remove(filepath.Join(p.BinDir, "nsqueue")); err != nil {
		t.Fatal(err)
	}
	p.want("wrong versions BIN/nsqueue: there is no plugin that the runtime could run")
}

// A container that the plugins' directory is not mounted in has none, or an empty
// one of its own: that says nothing of the node.
func TestPluginsNotSeen(t *testing.T) {
	p := newPatient(t)
	want := "unknown versions BIN/nsqueue: not checked: there are no CNI plugins in BIN"
	if err := os.Remove(filepath.Join(p.BinDir, "nsqueue")); err != nil {
		t.Fatal(err)
	}
	p.want(want)
	if err := os.Remove(p.BinDir); err != nil {
		t.Fatal(err)
	}
	p.want(want)
}

// elsewhere is what is said of the good file where another comes first.
const elsewhere = "warning cni chain CONF/10-flannel.conflist: nsqueue is in this file, which the runtime does not use for pods"

func TestChain(t *testing.T) {
	const stops = "; containerd takes no new pods because of this file, CRI-O skips it"
	for name, test := range map[string]struct {
		file, text string
		want       []string
	}{
		"earlier file": {
			"05-other.conflist", `{"name":"n","plugins":[{"type":"bridge"}]}`,
			[]string{"wrong cni chain CONF/05-other.conflist: the runtime uses this configuration, and " +
				"nsqueue is not in it (bridge): new pods are not inspected", elsewhere},
		},
		"no list": {
			"05-other.conf", `{"name":"n","type":"bridge"}`,
			[]string{"wrong cni chain CONF/05-other.conf: the runtime uses this configuration, which is not a list: new pods are not inspected", elsewhere},
		},
		"not last": {
			"10-flannel.conflist", `{"name":"n","plugins":[{"type":"nsqueue"},{"type":"a"}]}`,
			[]string{"wrong cni chain CONF/10-flannel.conflist: nsqueue must be in the list once, as the last plugin, after another: nsqueue, a"},
		},
		"other socket": {
			"10-flannel.conflist", strings.ReplaceAll(goodChain, "SOCKET", "/run/other.sock"),
			[]string{"warning cni chain CONF/10-flannel.conflist: new pods use the nsqueued at " +
				"/run/other.sock; this report is about the one at SOCKET"},
		},
		"cut off": {
			"05-other.conf", `{`,
			[]string{"wrong cni chain CONF/05-other.conf: invalid CNI configuration: error parsing " +
				"configuration: unexpected end of JSON input" + stops},
		},
		"empty": {
			"05-x.conflist", "",
			[]string{"wrong cni chain CONF/05-x.conflist: invalid CNI configuration: error parsing " +
				"configuration list: unexpected end of JSON input" + stops},
		},
		"later file is empty": {"20-x.conflist", "", nil},
		"no CNI file":         {"05-other.txt", `{`, nil},
		"delegates": {
			"00-multus.conf", `{"name":"m","type":"multus","delegates":[{"name":"cbr0","plugins":[{"type":"flannel"}]}]}`,
			[]string{"wrong cni chain CONF/00-multus.conf: the runtime uses this configuration, and " +
				"nsqueue is not in it (flannel): new pods are not inspected"},
		},
		"delegates to a missing network": {
			"00-multus.conf", `{"name":"m","type":"multus","clusterNetwork":"x"}`,
			[]string{`wrong cni chain CONF/00-multus.conf: nsqueue cannot be added to the network of a ` +
				`meta plugin: multus: its clusterNetwork "x" is no .conflist file in this directory; ` +
				`let it delegate to a .conflist file`},
		},
		"conversion without a source": {
			"05-x-with-nsqueue.conflist", conversion,
			[]string{"wrong cni chain CONF/05-x-with-nsqueue.conflist: nsqueuectl made this list from a .conf file that is gone, or that delegates itself: the list must be removed"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t)
			p.write(filepath.Join(p.ConfDir, test.file), test.text)
			p.want(test.want...)
		})
	}
	p := newPatient(t)
	p.ConfDir = t.TempDir()
	p.want("wrong cni chain CONF: there is no CNI configuration: pods get no network")
	p.ConfDir = filepath.Join(p.ConfDir, "missing")
	p.want("unknown cni chain CONF: not checked: open CONF: no such file or directory")
}

// conversion is what install makes of a .conf file.
const conversion = `{
  "name": "n",
  "cniVersion": "1.0.0",
  "plugins": [
    {"name":"n","cniVersion":"1.0.0","type":"bridge"},
    {"type":"nsqueue"}
  ]
}
`

func TestConversionOutdated(t *testing.T) {
	p := newPatient(t)
	p.write(filepath.Join(p.ConfDir, "05-x-with-nsqueue.conflist"),
		strings.ReplaceAll(conversion, `"type":"nsqueue"`, `"type":"nsqueue","socket":"`+p.Socket+`"`))
	source := filepath.Join(p.ConfDir, "05-x.conf")
	p.write(source, `{"name":"n","cniVersion":"1.0.0","type":"bridge"}`)
	p.want(elsewhere)
	p.write(source, `{"name":"n","cniVersion":"1.0.0","type":"ptp"}`)
	p.want("wrong cni chain CONF/05-x-with-nsqueue.conflist: nsqueuectl made this list from CONF/05-x.conf, which has "+
		"changed since", elsewhere)
}

// An entry in a file of its own counts where the runtimes read it.
func TestDropIn(t *testing.T) {
	p := newPatient(t)
	p.write(filepath.Join(p.ConfDir, "10-flannel.conflist"), `{"name":"cbr0","plugins":[{"type":"flannel"}]}`)
	dropIn := filepath.Join(p.ConfDir, "cbr0", "zz-nsqueue.conf")
	p.write(dropIn, `{"type":"nsqueue","socket":"`+p.Socket+`"}`)
	p.want("unknown cni chain CONF/cbr0/zz-nsqueue.conf: nsqueue is in a file of its own (containerd " +
		"reads it from 2.1.0 on, CRI-O from 1.33.0 on), and no program of a runtime is visible from here")
	p.Runtimes, p.DropIns = []string{"containerd"}, true
	p.want()
	p.DropIns = false
	p.want("wrong cni chain CONF/cbr0/zz-nsqueue.conf: nsqueue is in a file of its own, which containerd " +
		"of this node does not read: new pods are not inspected (containerd reads it from 2.1.0 on, " +
		"CRI-O from 1.33.0 on)")
	p.DropIns = true
	p.write(filepath.Join(p.ConfDir, "cbr0", "zzz.conf"), `{"type":"late"}`)
	p.want("wrong cni chain CONF/cbr0/zz-nsqueue.conf: nsqueue must be in the list once, as the last plugin, after another: flannel, nsqueue, late")
}

func TestPermissions(t *testing.T) {
	p := newPatient(t)
	p.examine() // makes the socket
	spool := filepath.Join(filepath.Dir(p.Socket), "spool")
	attachments := filepath.Join(p.state, "attachments")
	for _, dir := range []string{spool, attachments} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	p.want()
	for path, mode := range map[string]os.FileMode{
		p.Socket: 0o666, filepath.Dir(p.Socket): 0o777, spool: 0o755, attachments: 0o750,
		p.state: 0o775,
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	p.want("wrong permissions SOCKET: mode 0666 gives other users access that only root may have",
		"wrong permissions RUN: mode 0777 gives other users access that only root may have",
		"wrong permissions RUN/spool: mode 0755 gives other users access that only root may have",
		"wrong permissions STATE: mode 0775 gives other users access that only root may have",
		"wrong permissions STATE/attachments: mode 0750 gives other users access that only root may have")
}

// How long a call waits is told by the time since boot: neither the file's time
// nor the entry's, which are the wall clock's, have a say.
func TestSpool(t *testing.T) {
	p := newPatient(t)
	path := filepath.Join(filepath.Dir(p.Socket), "spool")
	dir, err := spool.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	called := boottime.Now()
	del, err := spool.NewDel(api.Key{ContainerID: "a", Ifname: "eth0"}, called)
	if err != nil {
		t.Fatal(err)
	}
	dayAgo := time.Now().AddDate(0, 0, -1)
	del.Time = dayAgo.UTC()
	if err := dir.Write(del); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(path, "a@eth0.json"), dayAgo, dayAgo); err != nil {
		t.Fatal(err)
	}
	p.Now = func() time.Duration { return called + 29*time.Second }
	p.want()
	p.Now = func() time.Duration { return called + time.Minute }
	const waits = "wrong spool RUN/spool: 1 undelivered CNI call, the oldest for 1m0s"
	p.want(waits)
	p.write(filepath.Join(path, "b@eth0.json"), "{}")
	p.want("wrong spool RUN/spool: this version cannot read 1 file, such as: "+
		"read spool file b@eth0.json: version 0: want 1 to 1", waits)
}

func TestWeakDaemon(t *testing.T) {
	p := newPatient(t)
	p.daemon.Change(func(s *api.Status) {
		s.FailurePolicy = api.Fail
		s.Supervisor = api.Supervisor{Kind: api.NoSupervisor}
		s.Descriptors = api.Descriptors{Open: 950, Limit: 1024}
	})
	p.want("warning hook : nft, because: the module is not loaded. This hook ends with nsqueued: while nsqueued does not run, packets of pods under Fail pass uninspected",
		"warning supervisor : none: nothing restarts nsqueued, and packets in its queues are lost when it exits",
		"wrong descriptors : 950 of 1024 descriptors are open, 0 more pods can be attached")
	p.daemon.Change(func(s *api.Status) {
		s.Hook.Persistent = true
		s.Supervisor = api.Supervisor{Kind: api.Systemd}
		s.Descriptors.Room = 9
	})
	p.want("wrong supervisor systemd: the descriptor store is off: packets in queues are lost when nsqueued restarts",
		"warning descriptors : 950 of 1024 descriptors are open, 9 more pods can be attached: fewer in "+
			"all than the 110 that a kubelet runs")
	p.daemon.Change(func(s *api.Status) {
		s.Supervisor = api.Supervisor{Kind: api.Supervise, Stored: 7, Capacity: 7}
		s.Descriptors = api.Descriptors{}
	})
	p.want("wrong supervisor supervise: the descriptor store is full (7): packets in the queues of further pods are lost when nsqueued restarts",
		"unknown descriptors : not checked: this nsqueued does not report them")
}

func TestAttachmentNotInspected(t *testing.T) {
	p := newPatient(t)
	answer := api.Errorf(api.CodeNotInspected, "queue 80 is not bound")
	p.daemon.Err = func(call string) error {
		if call == "check" {
			return answer
		}
		return nil
	}
	p.want("wrong attachments default/web, 0fd3/eth0: queue 80 is not bound")
	a := p.daemon.Attachments[0]
	p.daemon.Change(func(s *api.Status) {
		s.Problems = []api.Problem{{
			Key: a.Key, Pod: a.Pod, FailurePolicy: api.Fail, Message: "queue 80 is taken",
		}}
	})
	p.want("wrong problems default/web, 0fd3/eth0: queue 80 is taken; packets are dropped")
	p.daemon.Change(func(s *api.Status) {
		s.Problems[0].PastHook, s.Problems[0].Message = true, "packets pass uninspected"
	})
	p.want("wrong problems default/web, 0fd3/eth0: packets pass uninspected",
		"wrong attachments default/web, 0fd3/eth0: queue 80 is not bound")
	p.daemon.Change(func(s *api.Status) {
		s.Problems[0].PastHook, s.Problems[0].Inspector = false, true
		s.Problems[0].Message = "the inspector panicked"
	})
	p.want("wrong problems default/web, 0fd3/eth0: the inspector panicked; failure policy Fail decided the packets that it had not answered",
		"wrong attachments default/web, 0fd3/eth0: queue 80 is not bound")
	p.daemon.Change(func(s *api.Status) {
		s.Problems = nil
		s.Doubts = &api.Doubts{Attachments: 3, Key: a.Key, Pod: a.Pod, Reason: "no hostPID"}
		answer = api.Errorf(api.CodeNotAttached, "it is gone")
	})
	p.want("warning problems default/web, 0fd3/eth0: nsqueued cannot tell whether the pods of " +
		"3 attachments are alive, such as that of 0fd3/eth0: no hostPID. " +
		"They stay attached and inspected")
	p.daemon.Change(func(s *api.Status) {
		s.Doubts = nil
		answer = api.Errorf(api.CodeNotAttached, "it is gone")
	})
	p.want()
}

// Labels that do not come leave pods to the rules of those without.
func TestLabels(t *testing.T) {
	p := newPatient(t)
	p.examine()
	state := api.LabelsState{Source: api.LabelsNone}
	report := func() {
		now := state
		p.daemon.Change(func(s *api.Status) { s.Labels = &now })
	}
	report()
	p.want()
	state = api.LabelsState{
		Source: api.LabelsNRI, Socket: "/nri.sock", Problem: "dial unix /nri.sock: no such file",
	}
	report()
	p.want("wrong labels /nri.sock: the runtime does not tell the labels of pods: dial unix " +
		"/nri.sock: no such file")
	state.Connected, state.Problem, state.Runtime = true, "", "containerd"
	report()
	p.want()
	state.Late = 2
	report()
	p.want("warning labels /nri.sock: 2 pods have started before the rules of their labels were " +
		"in force")
}

// Files of rules that are refused are wrong, whether others are in force or none.
func TestRules(t *testing.T) {
	p := newPatient(t)
	p.examine()
	loaded := time.Now()
	state := api.RulesState{Directory: "/etc/nsqueue/rules.d", Sets: 2, Loaded: &loaded}
	report := func() {
		now := state
		p.daemon.Change(func(s *api.Status) { s.Rules = &now })
	}
	report()
	p.want()
	state.Problem = "rules are refused: a.yaml:3:1: no"
	report()
	p.want("wrong rules /etc/nsqueue/rules.d: rules are refused: a.yaml:3:1: no; " +
		"the rules of before stay in force")
	state.Loaded = nil
	report()
	p.want("wrong rules /etc/nsqueue/rules.d: rules are refused: a.yaml:3:1: no; " +
		"failure policies decide about all packets")
}

// An inspector outside nsqueued is to be there, and to keep up.
func TestInspectors(t *testing.T) {
	p := newPatient(t)
	p.examine()
	state := api.InspectorState{
		Name: "ids", Socket: "/run/i.sock", OnFailure: "Policy", PID: 7, Connected: true,
	}
	for _, tt := range []struct {
		change func()
		want   []string
	}{
		{func() {}, nil},
		{func() { state.Counters.Late = 2 }, []string{
			"warning inspectors ids: process 7 is slow: 2 packets exceeded its budget",
		}},
		{func() { state.PID = 0 }, []string{
			"warning inspectors ids: a process of another PID namespace is slow: 2 packets exceeded " +
				"its budget",
		}},
		{func() { state.PID, state.Stalled = 7, true }, []string{
			"wrong inspectors ids: process 7 does not answer; its packets get onFailure: Policy",
		}},
		{func() { state.Connected = false }, []string{
			"wrong inspectors ids: not connected to /run/i.sock; its packets get onFailure: Policy",
		}},
		{func() { state.Problem = "listen: no" }, []string{
			"wrong inspectors ids: listen: no; its packets get onFailure: Policy",
		}},
	} {
		tt.change()
		now := state
		p.daemon.Change(func(s *api.Status) { s.Inspectors = []api.InspectorState{now} })
		p.want(tt.want...)
	}
}

// The observers' socket does not serve CHECK; that is no fault of the pods.
func TestObserver(t *testing.T) {
	p := newPatient(t)
	p.examine()
	observer := api.ObserverSocket(p.Socket)
	l, err := api.ListenObservers(observer, -1)
	if err != nil {
		t.Fatal(err)
	}
	p.serveObservers(l)
	p.Socket = observer
	lines, _ := p.examine()
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "unknown attachments SOCKET: not checked:") ||
		!strings.HasPrefix(lines[1], "unknown marks SOCKET: not checked:") {
		t.Errorf("%q", lines)
	}
}

func (p *patient) serveObservers(l *net.UnixListener) {
	ctx, cancel := context.WithCancel(p.t.Context())
	served := make(chan error, 1)
	go func() {
		served <- api.ServeObservers(ctx, l, -1, &p.daemon, slog.New(slog.DiscardHandler))
	}()
	p.t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			p.t.Error(err)
		}
	})
}

// The limit of a group above counts as well, in both versions of control groups.
func TestCPULimit(t *testing.T) {
	p := newPatient(t)
	p.write(filepath.Join(p.fs(), "system.slice/nsqueued.service/cpu.max"), "max 100000\n")
	p.want()
	p.write(filepath.Join(p.fs(), "system.slice/cpu.max"), "50000 100000\n")
	p.want("wrong cpu limit CGROUP/system.slice/cpu.max: the control group limits nsqueued to " +
		"50000 of each 100000 microseconds: when it has used that up, packets of all pods wait for the rest of the period")

	p.groups("3:cpu,cpuacct:/pod\n0::/\n", "cgroup cgroup rw,cpu,cpuacct")
	p.write(filepath.Join(p.fs(), "pod/cpu.cfs_quota_us"), "-1\n")
	p.want()
	p.write(filepath.Join(p.fs(), "cpu.cfs_quota_us"), "7000\n")
	p.want("wrong cpu limit CGROUP/cpu.cfs_quota_us: the control group limits nsqueued to 7000 " +
		"microseconds of each period: when it has used that up, packets of all pods wait for the rest of the period")
}

func TestCPULimitUnseen(t *testing.T) {
	p := newPatient(t)
	p.groups("0::/../elsewhere\n", "cgroup2 cgroup2 rw")
	p.want("unknown cpu limit : not checked: control group /../elsewhere of process PID is not visible from here")
	p.daemon.Change(func(s *api.Status) {
		s.PID = 1 // what the daemon calls itself in a PID namespace of its own
	})
	p.want("unknown cpu limit : not checked: process PID serves the socket, but nsqueued says that it is process 1")
	pid := strconv.Itoa(os.Getpid())
	p.groups("0::/\n", "cgroup2 cgroup2 rw")
	p.write(filepath.Join(p.Proc, pid, "status"), "NSpid:\t"+pid+"\t1\n")
	p.want()
}

// The ends of rejected packets that are not told are reported by why.
func TestUntold(t *testing.T) {
	const since = "not told since nsqueued has started, so that clients wait for their own timeouts: "
	for _, tt := range []struct {
		untold *api.Untold
		want   []string
	}{
		{nil, []string{"unknown rejects : 9 rejected packets had an end that was not told; this " +
			"nsqueued does not report why"}},
		{
			&api.Untold{NoSocket: 2, SocketError: "socket: no", NotPermitted: true},
			[]string{"warning rejects : an end of 2 rejected packets was " + since +
				"nsqueued lacks CAP_NET_RAW (socket: no)"},
		},
		{
			&api.Untold{NoSocket: 1, SocketError: "socket: full", Unsent: 2, SendError: "no", TooMany: 3},
			[]string{
				"warning rejects : an end of 1 rejected packet was " + since +
					"nsqueued cannot open a raw socket in the pod's netns (socket: full)",
				"warning rejects : an end of 2 rejected packets was " + since +
					"the pod's kernel took no answer (no)",
				"warning rejects : an end of 3 rejected packets was " + since +
					"a pod had more than 1,000 a second",
			},
		},
	} {
		p := newPatient(t)
		p.daemon.Change(func(s *api.Status) {
			s.Counters.Rejected, s.Counters.Untold, s.Untold = 10, 9, tt.untold
		})
		p.want(tt.want...)
	}
}

// Rules that read server.names depend on the DNS answers that nsqueued sees.
func TestServerNames(t *testing.T) {
	const none = "warning server names 10.96.0.10, 10.96.0.11: rules of 2 attachments read " +
		"server.names, and no DNS answer of rules.resolvers was seen since nsqueued has started, " +
		"so that server.names is empty: "
	both := []string{"10.96.0.10", "10.96.0.11"}
	for _, tt := range []struct {
		names *api.ServerNames
		want  string // empty for nothing
	}{
		{nil, ""},
		{&api.ServerNames{Resolvers: both, Answers: 1, Others: 5}, ""},
		{
			&api.ServerNames{Answers: 1},
			"warning server names : rules of 2 attachments read server.names, and rules.resolvers " +
				"names no DNS server: the answers of any server count, also of one that a pod's " +
				"author runs",
		},
		{&api.ServerNames{Resolvers: both}, none + "pods have not asked"},
		{&api.ServerNames{Resolvers: both, Questions: 7}, none + "7 questions of pods had none"},
		{
			&api.ServerNames{Resolvers: both, Questions: 7, Others: 1, Other: "192.0.2.1"},
			none + "pods ask others, 192.0.2.1 the last of 1 question",
		},
		{
			&api.ServerNames{Resolvers: both, Others: 1, Refused: 3, RefusedBy: "s/default"},
			none + "rules refuse what pods ask them, s/default the last of 3 questions",
		},
	} {
		p := newPatient(t)
		loaded := time.Now()
		p.daemon.Change(func(s *api.Status) {
			s.Rules = &api.RulesState{Directory: "/rules", Loaded: &loaded, Sets: 1}
			s.Counters.Packets = 1
		})
		if tt.names != nil {
			tt.names.Attachments = 2
		}
		p.daemon.Ruled.ServerNames = tt.names
		if tt.want == "" {
			p.want()
		} else {
			p.want(tt.want)
		}
	}
}
