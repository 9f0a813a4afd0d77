// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/internal/conflist"
	"github.com/nsqueue/nsqueue/internal/spool"
)

// uninstallFlags are the command's own flags.
type uninstallFlags struct {
	directoryFlags
	keepPlugin, waitLock, watch bool
	instance                    string
}

const uninstallHelp = `Undo install: remove the nsqueue entry from all CNI configurations of the
node, wait until the runtime has read them, then remove the plugin. What is left
is what was there before, byte for byte.

Running pods stay inspected until they end, or until nsqueuectl detach --all.
nsqueued retire, before it, detaches them for good. CRI-O calls the plugin again
when such a pod ends: there the plugin is kept, unless you give
--keep-plugin=false. If a file that cannot be edited still has the entry, such
as one that was renamed, the plugin is kept too, and the exit status is 1.

With --watch the command does not end. It has a nsqueued that starts retire, and
undoes what installs nsqueue again. With --instance, nothing is done where
another installation runs.`

func newUninstall(run runner) *cobra.Command {
	var f uninstallFlags
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove nsqueue from the CNI chain of this node",
		Long:  uninstallHelp,
		Example: `  nsqueuectl uninstall --dry-run
  nsqueuectl uninstall && nsqueuectl detach --all
  nsqueuectl uninstall --wait-lock --timeout 1m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			given := cmd.Flags().Changed("keep-plugin")
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				return f.run(ctx, c, given)
			})
		},
	}
	f.add(cmd)
	cmd.Flag("timeout").Usage = "with --wait-lock: how long to wait;\n0s: forever"
	flags := cmd.Flags()
	flags.BoolVar(&f.keepPlugin, "keep-plugin", false, "do not remove the plugin")
	flags.BoolVar(&f.waitLock, "wait-lock", false,
		"wait until no nsqueuectl install --watch runs")
	flags.StringVar(&f.instance, "instance", "",
		"`NAME` of the installation to remove, that of its\nsupervisors (default: any)")
	flags.BoolVar(&f.watch, "watch", false, "keep running, and undo what installs it again")
	return cmd
}

// run does what the flags say.
func (f *uninstallFlags) run(ctx context.Context, c *command, keepGiven bool) error {
	if f.watch && f.dryRun {
		return usageErrorf("--watch and --dry-run exclude each other")
	}
	if err := f.complete(ctx, c, keepGiven); err != nil {
		return err
	}
	if f.watch {
		f.waitLock = true
		return c.keepUninstalled(ctx, f)
	}
	if other := f.otherInstance(ctx, c); other != "" {
		_, err := fmt.Fprintf(c.err, "nothing is done: the installation here is %s\n", other)
		return err
	}
	if f.dryRun {
		return f.planned(c)
	}
	return uninstall(ctx, c, f)
}

// planned prints what would be done.
func (f *uninstallFlags) planned(c *command) error {
	i, plugin := &conflist.Installer{Dir: f.confDir}, pluginToRemove(f.binDir, f.keepPlugin)
	p, err := i.PlanUninstall()
	if err != nil {
		return fmt.Errorf("uninstall: %w", err)
	}
	left := plugin.keepFor(p)
	err = c.writeDryRun(&installed{ConfDir: i.Dir, Plan: p, Plugin: plugin})
	return errors.Join(err, c.reportLeftovers(left, f.keepPlugin))
}

// instancePatience is for how long a nsqueued whose socket is there may not answer, as when
// it is started again.
const instancePatience = 10 * time.Second

// otherInstance returns the name of the installation that runs here, if it is not the one
// that is meant.
func (f *uninstallFlags) otherInstance(ctx context.Context, c *command) string {
	if f.instance == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, instancePatience)
	defer cancel()
	tick := time.NewTicker(retryWait)
	defer tick.Stop()
	for {
		s, err := c.client.Status(ctx)
		if h := s.Supervisor.Handover; err == nil && h != nil && h.Instance != f.instance {
			return cmp.Or(h.Instance, "without a name")
		}
		if _, gone := os.Lstat(c.socket); err == nil || gone != nil {
			return ""
		}
		select {
		case <-ctx.Done():
			return ""
		case <-tick.C:
		}
	}
}

// complete fills in what depends on the node.
func (f *uninstallFlags) complete(ctx context.Context, c *command, keepGiven bool) error {
	p, err := f.applyProfile(c.root)
	if err != nil {
		return err
	}
	found := findRuntimes(ctx, p, runningOn(c.root))
	if !keepGiven && slices.Contains(found.found, "crio") {
		f.keepPlugin = true
	}
	return nil
}

// plan says what is to be done. Where the directory itself is missing, it is nothing.
func (f *uninstallFlags) plan(do func() (*conflist.Plan, error)) (*conflist.Plan, error) {
	p, err := do()
	if errors.Is(err, conflist.ErrNoConfig) {
		return &conflist.Plan{Changes: []conflist.Change{}}, nil
	}
	return p, err
}

// installed reports whether there is something to remove.
func (f *uninstallFlags) installed() (bool, error) {
	p, err := f.plan((&conflist.Installer{Dir: f.confDir}).PlanUninstall)
	if err != nil {
		return false, fmt.Errorf("uninstall: %w", err)
	}
	plugin := pluginToRemove(f.binDir, f.keepPlugin)
	return len(p.Changes) > 0 || plugin.Action == conflist.Deleted, nil
}

func uninstall(ctx context.Context, c *command, f *uninstallFlags) error {
	i := &conflist.Installer{Dir: f.confDir}
	plugin := pluginToRemove(f.binDir, f.keepPlugin)
	unlock, err := f.awaitWatch(ctx, c)
	if err != nil {
		return err
	}
	defer unlock()
	p, err := f.plan(i.Uninstall)
	if err != nil {
		return fmt.Errorf("uninstall (the plugin is kept): %w", err)
	}
	done := &installed{ConfDir: i.Dir, Plan: p, Plugin: plugin}
	if len(p.Changes) > 0 {
		if done.Reloaded, err = c.awaitReload(ctx, i, p, f.reloadWait); err != nil {
			return err
		}
	}
	left := plugin.keepFor(p)
	if err := plugin.remove(); err != nil { // now nothing names it any more
		return err
	}
	removeUnlocked(watchLockPath(c.socket, f.confDir))
	return errors.Join(c.discardCalls(plugin), c.writeInstalled(done),
		c.reportLeftovers(left, f.keepPlugin))
}

// discardCalls removes what a plugin that is gone left for a nsqueued that is gone, too.
func (c *command) discardCalls(plugin *pluginFile) error {
	if _, err := os.Lstat(c.socket); plugin.Action == kept || err == nil {
		return nil
	}
	return spool.Discard(spool.Path(c.socket))
}

// removeUnlocked removes the file of a lock that no process has.
func removeUnlocked(path string) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer file.Close()
	if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		_ = os.Remove(path)
	}
}

// awaitWatch excludes install --watch, and waits for the end of one if it is told to.
func (f *uninstallFlags) awaitWatch(ctx context.Context, c *command) (unlock func(), err error) {
	if !f.waitLock {
		return f.excludeWatch()
	}
	err = c.waitUntil(ctx, "the end of nsqueuectl install --watch", f.timeout,
		func(context.Context) error {
			unlock, err = f.excludeWatch()
			if err != nil && !errors.Is(err, errWatched) {
				return &endWait{err}
			}
			return err
		})
	return unlock, err
}

// errWatched says that install --watch runs.
var errWatched = errors.New("nsqueuectl install --watch is running and would add the entry " +
	"again: stop it first")

// excludeWatch refuses where install --watch runs, and keeps it from starting.
func (f *directoryFlags) excludeWatch() (unlock func(), err error) {
	alone, err := lockDir(f.binDir, syscall.LOCK_EX)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, errWatched
	case errors.Is(err, fs.ErrNotExist):
		return func() {}, nil
	case err != nil:
		return nil, fmt.Errorf("uninstall: %w", err)
	}
	return func() { _ = alone.Close() }, nil
}

// keepFor keeps the plugin where a file still has its entry: a runtime reads that
// file as soon as another program gives it its old name.
func (p *pluginFile) keepFor(plan *conflist.Plan) error {
	if len(plan.Leftovers) == 0 {
		return nil
	}
	if p.Action == conflist.Deleted {
		p.Action = kept
	}
	return fmt.Errorf("nsqueue is still in %s: if a runtime used that, no pod could start "+
		"without the plugin; remove the entry or the file, then run nsqueuectl uninstall again",
		strings.Join(plan.Leftovers, ", "))
}

// reportLeftovers returns what is left as an error; where the plugin was to be kept
// in any case, it prints a note instead.
func (c *command) reportLeftovers(left error, keepPlugin bool) error {
	if left == nil || !keepPlugin {
		return left
	}
	_, err := fmt.Fprintf(c.err, "note: %v\n", left)
	return err
}

// pluginToRemove says what is to be done to the plugin.
func pluginToRemove(binDir string, keep bool) *pluginFile {
	p := &pluginFile{Path: filepath.Join(binDir, pluginName), Action: conflist.Deleted}
	if _, err := os.Lstat(p.Path); errors.Is(err, fs.ErrNotExist) {
		p.Action = conflist.Unchanged
	} else if keep {
		p.Action = kept
	}
	return p
}
