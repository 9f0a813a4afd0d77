// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/internal/conflist"
)

func newUninstall(run runner) *cobra.Command {
	var f directoryFlags
	var keepPlugin bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove nsqueue from the CNI chain of this node",
		Long: `Undo install: remove the nsqueue entry from all CNI configurations of the node,
wait until the runtime has read them, then remove the plugin. What is left is
what was there before, byte for byte.

Running pods stay inspected until they end, or until nsqueuectl detach --all.
CRI-O calls the plugin again when such a pod ends: there the plugin is kept,
unless you give --keep-plugin=false. If a file that cannot be edited still has
the entry, such as one that was renamed, the plugin is kept too, and the exit
status is 1.`,
		Example: `  nsqueuectl uninstall --dry-run
  nsqueuectl uninstall && nsqueuectl detach --all`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			given := cmd.Flags().Changed("keep-plugin")
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				p, err := f.applyProfile(c.root)
				if err != nil {
					return err
				}
				found := findRuntimes(ctx, p, runningOn(c.root))
				if !given && slices.Contains(found.found, "crio") {
					keepPlugin = true
				}
				return uninstall(ctx, c, f, keepPlugin)
			})
		},
	}
	f.add(cmd)
	_ = cmd.Flags().MarkHidden("timeout") // there is nothing to wait for
	cmd.Flags().BoolVar(&keepPlugin, "keep-plugin", false, "do not remove the plugin")
	return cmd
}

func uninstall(ctx context.Context, c *command, f directoryFlags, keepPlugin bool) error {
	i := &conflist.Installer{Dir: f.confDir}
	plugin := pluginToRemove(f.binDir, keepPlugin)
	if f.dryRun {
		p, err := i.PlanUninstall()
		if err != nil {
			return fmt.Errorf("uninstall: %w", err)
		}
		left := plugin.keepFor(p)
		err = c.writeDryRun(&installed{ConfDir: i.Dir, Plan: p, Plugin: plugin})
		return errors.Join(err, c.reportLeftovers(left, keepPlugin))
	}
	unlock, err := f.excludeWatch()
	if err != nil {
		return err
	}
	defer unlock()
	p, err := i.Uninstall()
	if errors.Is(err, conflist.ErrNoConfig) { // the directory itself is missing
		p, err = &conflist.Plan{Changes: []conflist.Change{}}, nil
	}
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
	return errors.Join(c.writeInstalled(done), c.reportLeftovers(left, keepPlugin))
}

// excludeWatch refuses where install --watch runs, and keeps it from starting.
func (f *directoryFlags) excludeWatch() (unlock func(), err error) {
	alone, err := lockDir(f.binDir, syscall.LOCK_EX)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, errors.New("nsqueuectl install --watch is running and would add the entry " +
			"again: stop it first")
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
