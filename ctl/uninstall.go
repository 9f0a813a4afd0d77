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
		Short: "Take nsqueue out of the CNI chain of this node",
		Long: `Undo install: take the entry out of all configurations of the node, wait until
the runtime has read them, and then remove the plugin. What is left is what was
there before, byte for byte.

Pods that run stay inspected until they end; nsqueuectl detach --all lets go of
them. CRI-O calls the plugin for pods that it was called for before, and needs
it until they have ended: there the plugin is kept, unless --keep-plugin=false
says otherwise. It is kept as well, and the exit status is 1, where a file has
the entry still that cannot be edited, such as one that was renamed.`,
		Example: `  nsqueuectl uninstall --dry-run
  nsqueuectl uninstall && nsqueuectl detach --all`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			said := cmd.Flags().Changed("keep-plugin")
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				p, err := f.applyProfile(c.root)
				if err != nil {
					return err
				}
				found := findRuntimes(ctx, p)
				if !said && slices.Contains(found.found, "crio") {
					keepPlugin = true
				}
				return uninstall(ctx, c, f, keepPlugin)
			})
		},
	}
	f.add(cmd)
	_ = cmd.Flags().MarkHidden("timeout") // there is nothing to wait for
	cmd.Flags().BoolVar(&keepPlugin, "keep-plugin", false, "leave the plugin where it is")
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
		return fmt.Errorf("uninstall, and the plugin stays where it is: %w", err)
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

// excludeWatch keeps install --watch away.
func (f *directoryFlags) excludeWatch() (unlock func(), err error) {
	alone, err := lockDir(f.binDir, syscall.LOCK_EX)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, errors.New("nsqueuectl install --watch runs and would bring the entry back: " +
			"end it first")
	case errors.Is(err, fs.ErrNotExist):
		return func() {}, nil
	case err != nil:
		return nil, fmt.Errorf("uninstall: %w", err)
	}
	return func() { _ = alone.Close() }, nil
}

// keepFor has the plugin stay where a file has its entry still: a runtime reads
// that file as soon as another program gives it its name back.
func (p *pluginFile) keepFor(plan *conflist.Plan) error {
	if len(plan.Leftovers) == 0 {
		return nil
	}
	if p.Action == conflist.Deleted {
		p.Action = kept
	}
	return fmt.Errorf("nsqueue is still in %s, and no pod could start without the plugin if a "+
		"runtime took that: take it out, or remove the file, and run nsqueuectl uninstall again",
		strings.Join(plan.Leftovers, ", "))
}

// reportLeftovers is for what was left: an error, unless the plugin was to stay in any case.
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
