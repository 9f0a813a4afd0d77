// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/cnipod"
	"github.com/nsqueue/nsqueue/internal/conflist"
)

// directoryFlags are those of install and uninstall.
type directoryFlags struct {
	profile, confDir, binDir string
	dryRun                   bool
	timeout, reloadWait      time.Duration
}

// addDirectories adds the flags that name the runtime's directories.
func (f *directoryFlags) addDirectories(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.profile, "profile", "auto",
		"`NAME` of the distribution whose directories\n"+
			"are used: auto, k3s, microk8s, kubeadm, kind\n")
	flags.StringVar(&f.confDir, "conf-dir", "", "`DIRECTORY` of CNI configurations")
	flags.StringVar(&f.binDir, "bin-dir", "", "`DIRECTORY` of CNI plugins")
}

func (f *directoryFlags) add(cmd *cobra.Command) {
	f.addDirectories(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.dryRun, "dry-run", false, "print what would change, change nothing")
	flags.DurationVar(&f.timeout, "timeout", 2*time.Minute,
		"how long to wait for the configuration of the\npod network; 0s: forever")
	flags.DurationVar(&f.reloadWait, "reload-wait", 5*time.Second,
		"how long to wait until the runtime has read\nwhat changed")
}

// installFlags are the command's own flags.
type installFlags struct {
	directoryFlags
	plugin, mode, policy  string
	excluded, annotations []string
	passed                []string
	watch, waitLock       bool
	afterReady, network   string
}

const installHelp = `Add nsqueue to the chain of CNI plugins that the container runtime calls for
each pod: copy the plugin, and add its entry to the first CNI configuration,
which is the one that runtimes use.

Where the runtime reads plugins from a directory of the network (containerd 2.1,
CRI-O 1.33, or newer), the entry is a file of its own there. Elsewhere it is
appended to the list of plugins. The rest of that file stays as it is, byte for
byte. A .conf file is not changed: install makes a list of it, with a name that
sorts first.

With --watch the command does not end. flannel and k3s rewrite their file at
each start; nsqueuectl then adds the entry again, and nsqueued adopts the pods
that started meanwhile. If another program undoes more than 5 repairs a minute,
nsqueuectl pauses before it repairs the file again. Only one such command runs
for a directory; --wait-lock waits for the end of the one before.

In a container that comes and goes with nsqueued's, --after-ready has the plugin
copied only when the nsqueued of that container serves, and --network writes the
entry of a network before that network's own file is there, so that no pod of a
new node starts without it.`

func newInstall(run runner) *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Add nsqueue to the CNI chain of this node",
		Long:  installHelp,
		Example: `  nsqueuectl install --dry-run
  nsqueuectl install --exclude-namespaces kube-system
  nsqueuectl install --watch
  nsqueuectl install --watch --wait-lock --timeout 0s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			socket := cmd.Flag("socket").Value.String()
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				return install(ctx, c, f, socket)
			})
		},
	}
	flags := cmd.Flags()
	f.add(cmd)
	flags.StringVar(&f.plugin, "plugin", "",
		"`PATH` of the plugin to copy (default: nsqueue\nbeside this program)")
	flags.StringVar(&f.mode, "mode", "auto",
		"`WHERE` the entry goes: auto, append or\ndrop-in")
	flags.StringVar(&f.policy, "failure-policy", string(api.Ignore),
		"`POLICY` for pods that cannot be inspected:\nIgnore or Fail")
	flags.StringSliceVar(&f.excluded, "exclude-namespaces", nil,
		"`NAMES` of namespaces whose pods are not\ninspected")
	flags.StringSliceVar(&f.annotations, "pod-annotations", nil,
		"`NAMES` of annotations by which a pod may lower\nits inspection: inspect, failure-policy")
	flags.StringSliceVar(&f.passed, "pass-annotations", nil,
		"`NAMES` of annotations that inspectors see, as\nnsqueue.io/* (default); '': none")
	flags.BoolVar(&f.watch, "watch", false, "keep running, and repair what other programs\nundo")
	flags.BoolVar(&f.waitLock, "wait-lock", false,
		"with --watch: wait until no other one runs\nfor the same directory")
	flags.StringVar(&f.afterReady, "after-ready", "",
		"`DIRECTORY` of a supervisor, its --runtime-dir:\nits nsqueued must serve first")
	flags.StringVar(&f.network, "network", "",
		"`NAME` of a network, such as cbr0, whose file\nmay be missing so far (needs drop-ins)")
	return cmd
}

// installed is the output of install and uninstall for programs.
type installed struct {
	ConfDir string `json:"confDir"`
	*conflist.Plan
	Plugin *pluginFile `json:"plugin"`
	// Reloaded: the configurations were read after the change.
	Reloaded bool `json:"reloaded"`
	DryRun   bool `json:"dryRun"`
	// Diff says what a dry run would do.
	Diff string `json:"diff,omitempty"`
}

// applyProfile fills in what the profile says.
func (f *directoryFlags) applyProfile(root string) (*profile, error) {
	p, err := findProfile(root, f.profile)
	if err != nil {
		return nil, err
	}
	if f.confDir == "" {
		f.confDir = p.confDir
	}
	if f.binDir == "" {
		f.binDir = p.binDir()
	}
	if f.confDir, err = filepath.Abs(f.confDir); err != nil {
		return nil, err
	}
	f.binDir, err = filepath.Abs(f.binDir)
	return &p, err
}

// installer returns what the flags say.
func (f *installFlags) installer(
	ctx context.Context, root, socket string,
) (*conflist.Installer, error) {
	p, err := f.applyProfile(root)
	if err != nil {
		return nil, err
	}
	e := &cnipod.Entry{
		Socket: socket, FailurePolicy: api.Policy(f.policy),
		ExcludeNamespaces: f.excluded, PodAnnotations: f.annotations,
		PassAnnotations: f.passed,
	}
	if err := e.Validate(); err != nil {
		return nil, usageErrorf("%s", err)
	}
	if !slices.Contains([]string{"auto", "append", "drop-in"}, f.mode) {
		return nil, usageErrorf("mode %q: want auto, append or drop-in", f.mode)
	}
	if err := f.validate(); err != nil {
		return nil, err
	}
	mode := conflist.Mode(f.mode)
	if f.mode == "auto" {
		found := findRuntimes(ctx, p, runningOn(root))
		mode = found.mode()
	}
	return &conflist.Installer{Dir: f.confDir, Entry: e, Mode: mode, Network: f.network}, nil
}

// validate refuses flags that make no sense together.
func (f *installFlags) validate() error {
	switch {
	case f.watch && f.dryRun:
		return usageErrorf("--watch and --dry-run exclude each other")
	case f.waitLock && !f.watch:
		return usageErrorf("--wait-lock goes with --watch")
	case f.network != "" && !conflist.IsNetworkName(f.network):
		return usageErrorf("network %q: want letters, digits, '_', '.' or '-', "+
			"the first a letter or digit", f.network)
	case f.network != "" && f.mode == string(conflist.Append):
		return usageErrorf("--network needs drop-ins, and --mode append makes none")
	}
	return nil
}

// prepare asks the programs of the node: the runtime, and the plugin to copy.
func (c *command) prepare(
	ctx context.Context, f *installFlags, socket string,
) (*conflist.Installer, *pluginFile, error) {
	defer c.showProgress(func() string { return "checking the container runtime" })()
	i, err := f.installer(ctx, c.root, socket)
	if err != nil {
		return nil, nil, err
	}
	plugin, err := findPlugin(ctx, f.plugin, f.binDir)
	return i, plugin, err
}

func install(ctx context.Context, c *command, f installFlags, socket string) error {
	i, plugin, err := c.prepare(ctx, &f, socket)
	if err != nil {
		return err
	}
	if f.dryRun {
		p, err := c.installWhenReady(ctx, i, i.Plan, f.timeout)
		if err != nil {
			return fmt.Errorf("install: %w", err)
		}
		c.noteElsewhere(p)
		return c.writeDryRun(&installed{ConfDir: i.Dir, Plan: p, Plugin: plugin})
	}
	lock, err := c.awaitTurn(ctx, &f)
	if err != nil {
		return err
	}
	defer lock.Close()
	if f.waitLock || f.afterReady != "" { // the node may be another one than before
		if i, plugin, err = c.prepare(ctx, &f, socket); err != nil {
			return err
		}
	}
	c.warnWithoutDaemon(ctx, i.Entry)
	c.noteNetwork(i)
	if err := plugin.install(); err != nil { // before anything names it
		return fmt.Errorf("copy plugin: %w", err)
	}
	if f.watch {
		return c.watchUntilRetired(ctx, i, plugin, f, lock)
	}
	p, err := c.installWhenReady(ctx, i, i.Install, f.timeout)
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	done := &installed{ConfDir: i.Dir, Plan: p, Plugin: plugin}
	if done.Reloaded, err = c.awaitReload(ctx, i, p, f.reloadWait); err != nil {
		return err
	}
	c.noteElsewhere(p)
	return c.writeInstalled(done)
}

// installWhenReady installs, or plans to, when there is a configuration, and says
// what it waits for.
func (c *command) installWhenReady(ctx context.Context, i *conflist.Installer,
	do func() (*conflist.Plan, error), timeout time.Duration,
) (*conflist.Plan, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var next time.Time
	p, err := i.InstallWhenReady(ctx, do, func(err error) {
		if now := time.Now(); now.After(next) {
			next = now.Add(5 * c.progressAfter)
			fmt.Fprintf(c.err, "waiting: %v\n", err)
		}
	})
	if errors.Is(err, conflist.ErrNoConfig) && errors.Is(err, context.DeadlineExceeded) {
		return p, fmt.Errorf("%w in %s within %v: install the pod network, which writes it, or "+
			"name the runtime's directory with --conf-dir or --profile; --timeout 0s waits forever",
			conflist.ErrNoConfig, i.Dir, timeout)
	}
	return p, err
}

// awaitTurn waits until the installation may begin. It returns the lock of a watch, nil
// for none.
func (c *command) awaitTurn(ctx context.Context, f *installFlags) (lock *os.File, err error) {
	if f.watch {
		if lock, err = c.lockWatch(ctx, f); err != nil {
			return nil, err
		}
	}
	if f.afterReady == "" {
		return lock, nil
	}
	if err := c.awaitServing(ctx, f.afterReady, f.timeout); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return lock, nil
}

// noteNetwork says that the entry cannot come before the network.
func (c *command) noteNetwork(i *conflist.Installer) {
	if i.Network != "" && i.Mode != conflist.DropIn {
		fmt.Fprintf(c.err, "note: the runtime reads no drop-ins, so that the entry waits for the "+
			"file of network %s\n", i.Network)
	}
}

// noteElsewhere names the files whose entry is not called for pods.
func (c *command) noteElsewhere(p *conflist.Plan) {
	for _, path := range p.Elsewhere {
		fmt.Fprintf(c.err, "note: nsqueue is also in %s, which runtimes do not use for pods:\n"+
			"remove it there unless another program (such as podman) uses that file\n", path)
	}
}

// warnWithoutDaemon says what happens to pods while no daemon can inspect them.
func (c *command) warnWithoutDaemon(ctx context.Context, e *cnipod.Entry) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if s, err := c.client.Status(ctx); err == nil {
		if s.Retired {
			fmt.Fprintf(c.err, "note: %v: no pod is inspected until nsqueued is started anew.\n",
				errRetired)
		}
		return
	}
	what := "new pods start uninspected"
	if e.FailurePolicy == api.Fail {
		what = "NEW PODS CANNOT START"
	}
	fmt.Fprintf(c.err, "note: nsqueued does not answer at %s. Until it does, %s.\n", e.Socket, what)
}

// awaitReload makes the runtime read its configurations, and waits until a process
// has done so.
func (c *command) awaitReload(ctx context.Context, i *conflist.Installer, p *conflist.Plan,
	limit time.Duration,
) (bool, error) {
	r, err := i.Reload(ctx, p)
	if err != nil {
		return false, fmt.Errorf("make the runtime read %s again: %w", i.Dir, err)
	}
	defer r.Close()
	stop := c.showProgress(func() string { return "waiting for the runtime to read " + i.Dir })
	read := r.Wait(ctx, limit)
	stop()
	if read {
		return true, nil
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	fmt.Fprintf(c.err, "note: no process has read %s within %v. Does a container runtime\n"+
		"run here, and does it read that directory?\n", i.Dir, limit)
	return false, nil
}

func (c *command) writeInstalled(done *installed) error {
	if c.printer().Structured() {
		return c.printer().Object(done)
	}
	_, err := fmt.Fprintf(c.out, "%s: %s\n", done.Plugin.Path, done.Plugin.Action)
	for _, change := range done.Changes {
		_, changeErr := fmt.Fprintf(c.out, "%s: %s\n", change.Path, change.Action)
		err = errors.Join(err, changeErr)
	}
	if len(done.Changes) == 0 {
		what := done.ConfDir
		if done.Active != "" {
			what = done.Active
		}
		_, changeErr := fmt.Fprintf(c.out, "%s: %s\n", what, conflist.Unchanged)
		err = errors.Join(err, changeErr)
	}
	return err
}

func (c *command) writeDryRun(would *installed) error {
	would.DryRun = true
	for _, change := range would.Changes {
		would.Diff += text.Diff(change.Path, change.Before, change.After)
	}
	if c.printer().Structured() {
		return c.printer().Object(would)
	}
	fmt.Fprintf(c.err, "%s would be %s\n", would.Plugin.Path, would.Plugin.Action)
	if would.Diff == "" {
		fmt.Fprintf(c.err, "%s would be %s\n", would.ConfDir, conflist.Unchanged)
	}
	_, err := fmt.Fprint(c.out, would.Diff)
	return err
}
