// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// callTimeout bounds each call to the daemon, and the plugin's start.
const callTimeout = 10 * time.Second

// The names of the checks.
const (
	checkDaemon      = "daemon"
	checkVersions    = "versions"
	checkChain       = "cni chain"
	checkPermissions = "permissions"
	checkSpool       = "spool"
	checkHook        = "hook"
	checkKernel      = "kernel"
	checkBuffers     = "buffers"
	checkMarks       = "marks"
	checkSupervisor  = "supervisor"
	checkHandover    = "hand-over"
	checkContainer   = "container"
	checkCPU         = "cpu limit"
	checkDescriptors = "descriptors"
	checkRules       = "rules"
	checkLabels      = "labels"
	checkInspectors  = "inspectors"
	checkNames       = "server names"
	checkRejects     = "rejects"
	checkProblems    = "problems"
	checkAttachments = "attachments"
)

// daemon asks the daemon how it is. Most of the rest depends on its answer.
func (e *examination) daemon(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := e.client.Status(ctx)
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.notChecked(checkDaemon, e.Socket, err)
		return
	case errors.Is(err, api.ErrUnavailable):
		e.add(Wrong, checkDaemon, e.Socket, err.Error(),
			e.remedy("Start nsqueued (systemctl start nsqueued) and see its log (journalctl -u "+
				"nsqueued), or name its socket with --socket.",
				"See the pod of nsqueued on this node (kubectl get pods, kubectl describe pod), "+
					"and its log (kubectl logs -c nsqueued). Or name its socket with --socket."))
		return
	case err != nil:
		e.add(Wrong, checkDaemon, e.Socket, "nsqueued answers with an error: "+err.Error(),
			"See the log of nsqueued ("+e.logRemedy()+").")
		return
	}
	e.reached, e.status = true, s
	e.peer = findPeer(ctx, e.Socket, e.Proc, s.PID)
	e.ok(checkDaemon, e.Socket, "process %d answers (started %s, %s)", s.PID,
		s.Started.UTC().Format(time.RFC3339), text.Plural(s.Attachments, "attachment"))
}

// versions compares the three programs with each other: they are built together.
// What their versions do not tell is unknown, not wrong.
func (e *examination) versions(ctx context.Context) {
	daemon := same
	if e.reached {
		daemon = e.daemonVersion()
	}
	plugin := filepath.Join(e.BinDir, "nsqueue")
	if e.pluginVersion(ctx, plugin) != same || daemon != same {
		return
	}
	if e.reached {
		e.ok(checkVersions, plugin, "plugin, nsqueued and nsqueuectl are %s", e.Version)
		return
	}
	e.ok(checkVersions, plugin, "plugin and nsqueuectl are %s; nsqueued was not reached",
		e.Version)
}

// daemonVersion reports one that is not, or may not be, this program's.
func (e *examination) daemonVersion() relation {
	r := compare(e.status.Version, e.Version)
	const link = "-X github.com/nsqueue/nsqueue/daemon/api.version=VERSION"
	switch r {
	case different:
		e.add(Wrong, checkVersions, e.Socket,
			fmt.Sprintf("nsqueued is %s, nsqueuectl %s", e.status.Version, e.Version),
			e.remedy("Install all programs of one version and restart nsqueued (systemctl restart "+
				"nsqueued, or nsqueuectl upgrade under `nsqueued supervise`).",
				"Let the rollout end, or give all containers of the pod one image (helm upgrade, "+
					"or kubectl apply).")+" If you build nsqueued yourself, build it against that "+
				"version of the module.")
	case unclear:
		e.add(Unknown, checkVersions, e.Socket,
			fmt.Sprintf("not compared: nsqueued is %s, nsqueuectl %s", e.status.Version, e.Version),
			"If you build nsqueued yourself, build it against a released version of the module, "+
				"or link it with "+link+".")
	}
	return r
}

// pluginVersion reports a plugin that does not run, or that is not, or may not be,
// of this program's version.
func (e *examination) pluginVersion(ctx context.Context, plugin string) relation {
	version, err := pluginVersion(ctx, plugin)
	if err != nil {
		e.noPlugin(plugin, err)
		return unclear
	}
	r := compare(version, e.Version)
	switch r {
	case different:
		e.add(Wrong, checkVersions, plugin,
			fmt.Sprintf("the plugin is %s, nsqueuectl %s", version, e.Version),
			"Install all programs of one version (make install).")
	case unclear:
		e.add(Unknown, checkVersions, plugin,
			fmt.Sprintf("not compared: the plugin is %s, nsqueuectl %s", version, e.Version),
			"Install all programs of one version (make install).")
	}
	return r
}

// noPlugin says why the plugin's version is not known.
func (e *examination) noPlugin(plugin string, err error) {
	switch {
	case errors.Is(err, fs.ErrNotExist) && !hasFiles(e.BinDir):
		e.notChecked(checkVersions, plugin, fmt.Errorf("there are no CNI plugins in %s", e.BinDir))
	case errors.Is(err, fs.ErrNotExist):
		e.add(Wrong, checkVersions, plugin, "there is no plugin that the runtime could run",
			"Install nsqueue there (make install), or name the runtime's directory with --bin-dir.")
	case errors.Is(err, fs.ErrPermission):
		e.notChecked(checkVersions, plugin, err)
	default:
		e.add(Wrong, checkVersions, plugin, "the plugin does not run: "+err.Error(),
			"Install nsqueue there again (make install).")
	}
}

// hasFiles says whether a directory is there and has anything in it: an empty one
// may be a container's own.
func hasFiles(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) > 0
}

func pluginVersion(ctx context.Context, plugin string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := os.Stat(plugin); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, plugin, "--version")
	cmd.Env = []string{} // nothing that could be taken for a CNI call
	out, err := cmd.Output()
	if err != nil {
		return "", err
	}
	version, ok := strings.CutPrefix(strings.TrimSpace(string(out)), "nsqueue ")
	if !ok {
		return "", fmt.Errorf("it prints %.60q as its version", out)
	}
	return version, nil
}

// hook says which one is in use and why. One that ends with the daemon breaks the
// promise of Fail.
func (e *examination) hook() {
	h := &e.status.Hook
	what := h.Kind
	if h.Detail != "" {
		what += " (" + h.Detail + ")"
	}
	if h.Reason != "" {
		what += ", because: " + h.Reason
	}
	if e.status.FailurePolicy == api.Fail && !h.Persistent {
		e.add(Warning, checkHook, "",
			what+". This hook ends with nsqueued: while nsqueued does not run, packets of pods "+
				"under Fail pass uninspected",
			"Run nsqueued under systemd or `nsqueued supervise`, load the kernel module, or use "+
				"Linux 6.9 or newer.")
		return
	}
	e.ok(checkHook, "", "%s", what)
}

// supervisor says what restarts the daemon and stores the queues meanwhile.
func (e *examination) supervisor() {
	s := &e.status.Supervisor
	remedy := e.remedy("Run nsqueued by its systemd unit, or by `nsqueued supervise`.",
		"Start the container with `nsqueued supervise`, as deploy/image/pod.yaml does.")
	switch {
	case s.Kind == api.NoSupervisor || s.Kind == "":
		e.add(Warning, checkSupervisor, "",
			"none: nothing restarts nsqueued, and packets in its queues are lost when it exits",
			remedy)
	case s.Capacity == 0:
		e.add(Wrong, checkSupervisor, string(s.Kind),
			"the descriptor store is off: packets in queues are lost when nsqueued restarts",
			"Set FileDescriptorStoreMax in the unit, and Environment=FDSTORE to the same number. "+
				remedy)
	case s.Stored >= s.Capacity:
		e.add(Wrong, checkSupervisor, string(s.Kind),
			fmt.Sprintf("the descriptor store is full (%d): packets in the queues of further pods "+
				"are lost when nsqueued restarts", s.Capacity),
			"Raise FileDescriptorStoreMax and FDSTORE in the unit, or --max-descriptors of "+
				"`nsqueued supervise`.")
	default:
		e.ok(checkSupervisor, string(s.Kind), "%d of at most %d descriptors are stored",
			s.Stored, s.Capacity)
	}
}

// kubeletPods is how many pods a kubelet runs unless it is told otherwise.
const kubeletPods = 110

// descriptors says for how many more pods there is room.
func (e *examination) descriptors() {
	d := &e.status.Descriptors
	remedy := e.remedy(
		"Raise LimitNOFILE in the unit of nsqueued, or `ulimit -n` before it is started.",
		"Raise the container runtime's limit of open files (LimitNOFILE in its unit), then "+
			"restart the pod.")
	if d.Limit == 0 {
		e.add(Unknown, checkDescriptors, "", "not checked: this nsqueued does not report them", "")
		return
	}
	what := fmt.Sprintf("%d of %d descriptors are open, %d more pods can be attached",
		d.Open, d.Limit, d.Room)
	switch {
	case d.Room == 0:
		e.add(Wrong, checkDescriptors, "", what, remedy)
	case d.Room+e.status.Attachments < kubeletPods:
		e.add(Warning, checkDescriptors, "",
			fmt.Sprintf("%s: fewer in all than the %d that a kubelet runs", what, kubeletPods),
			remedy)
	default:
		e.ok(checkDescriptors, "", "%s", what)
	}
}
