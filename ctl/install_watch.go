// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/conflist"
)

// installEvent is what install --watch reports.
type installEvent struct {
	Time time.Time `json:"time"`
	// Event is repaired, failed, paused, plugin copied, adopted or not adopted.
	Event   string            `json:"event"`
	Changes []conflist.Change `json:"changes,omitempty"`
	Adopted int               `json:"adopted,omitempty"`
	Message string            `json:"message,omitempty"`
}

// installWatch is one run of install --watch.
type installWatch struct {
	*command
	installer  *conflist.Installer
	plugin     *pluginFile
	reloadWait time.Duration
	// adoptAgain is when to adopt once more: pods that had begun to start before the
	// entry was back are ready by then; zero: never.
	adoptAgain time.Time
}

// checkInterval is how often install --watch checks the configuration though no
// file seems to have changed.
const checkInterval = 10 * time.Second

// watchInstall installs, and repairs what other programs undo until ctx ends.
func (c *command) watchInstall(
	ctx context.Context, i *conflist.Installer, plugin *pluginFile, f installFlags,
) error {
	watching, err := lockDir(f.binDir, syscall.LOCK_SH)
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	defer watching.Close()
	w := &installWatch{command: c, installer: i, plugin: plugin, reloadWait: f.reloadWait}
	if _, err := c.installWhenReady(ctx, i, i.Plan, f.timeout); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	fmt.Fprintf(c.err, "watching %s; press Ctrl-C to stop\n", i.Dir)
	return (&conflist.Watcher{
		Installer: i, Interval: checkInterval, Backoff: conflist.DefaultBackoff(),
		Repaired: w.repaired, Failed: w.failed, Checked: w.checked, BackedOff: w.backedOff,
	}).Run(ctx)
}

func (w *installWatch) repaired(ctx context.Context, p *conflist.Plan) {
	w.report(&installEvent{Event: "repaired", Changes: p.Changes})
	if _, err := w.awaitReload(ctx, w.installer, p, w.reloadWait); err != nil {
		if ctx.Err() != nil {
			return
		}
		w.failed(err)
	}
	w.adopt(ctx)
	w.adoptAgain = w.now().Add(checkInterval)
}

func (w *installWatch) checked(ctx context.Context) {
	switch lost, err := w.plugin.replaceLost(); {
	case err != nil:
		w.failed(fmt.Errorf("copy plugin again: %w", err))
	case lost:
		w.report(&installEvent{Event: "plugin copied", Message: w.plugin.Path})
	}
	if !w.adoptAgain.IsZero() && !w.now().Before(w.adoptAgain) {
		w.adoptAgain = time.Time{}
		w.adopt(ctx)
	}
}

// adopt has nsqueued adopt the pods that started while the entry was missing.
func (w *installWatch) adopt(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, adoptTimeout)
	defer cancel()
	found, err := w.client.Adopt(ctx, api.AdoptRequest{})
	if err != nil {
		w.report(&installEvent{Event: "not adopted", Message: err.Error()})
		return
	}
	w.report(&installEvent{Event: "adopted", Adopted: found.Count(api.Adopted)})
}

func (w *installWatch) failed(err error) {
	w.report(&installEvent{Event: "failed", Message: err.Error()})
}

func (w *installWatch) backedOff(p *conflist.Plan, repairs int, pause time.Duration) {
	w.report(&installEvent{Event: "paused", Message: fmt.Sprintf(
		"another program keeps rewriting %s and has undone %d repairs: find out which one; "+
			"the next repair is in %v", p.Active, repairs, pause)})
}

// report prints an event. An output that cannot be written to must not stop the
// repairs.
func (w *installWatch) report(e *installEvent) {
	e.Time = w.now()
	if w.printer().Structured() {
		_ = w.printer().Item(e)
		return
	}
	at := e.Time.Format(time.RFC3339)
	switch {
	case e.Event == "adopted":
		fmt.Fprintf(w.out, "%s adopted: %s\n", at, text.Plural(e.Adopted, "pod"))
	case len(e.Changes) == 0:
		fmt.Fprintf(w.out, "%s %s: %s\n", at, e.Event, e.Message)
	}
	for _, c := range e.Changes {
		fmt.Fprintf(w.out, "%s %s: %s: %s\n", at, e.Event, c.Path, c.Action)
	}
}
