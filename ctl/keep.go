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

// keptEvent is what install --watch reports.
type keptEvent struct {
	Time time.Time `json:"time"`
	// Event is repaired, failed, gave way, plugin copied, adopted or not adopted.
	Event   string            `json:"event"`
	Changes []conflist.Change `json:"changes,omitempty"`
	Adopted int               `json:"adopted,omitempty"`
	Message string            `json:"message,omitempty"`
}

// keeping is one run of install --watch.
type keeping struct {
	*command
	installer  *conflist.Installer
	plugin     *pluginFile
	reloadWait time.Duration
	// adoptAgain is when pods are looked for once more that had begun to be made
	// before the entry was back; zero: never.
	adoptAgain time.Time
}

// keepLook is how often install --watch looks though nothing seems to have
// happened.
const keepLook = 10 * time.Second

// keep installs, and repairs what others undo until ctx ends.
func (c *command) keep(
	ctx context.Context, i *conflist.Installer, plugin *pluginFile, f installFlags,
) error {
	watching, err := lockDir(f.binDir, syscall.LOCK_SH)
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	defer watching.Close()
	k := &keeping{command: c, installer: i, plugin: plugin, reloadWait: f.reloadWait}
	if _, err := c.first(ctx, i, i.Plan, f.timeout); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	fmt.Fprintf(c.err, "watching %s, Ctrl-C ends it\n", i.Dir)
	return (&conflist.Keeper{
		Installer: i, Look: keepLook, Fight: conflist.DefaultFight(),
		Repaired: k.repaired, Failed: k.failed, Looked: k.looked, GaveWay: k.gaveWay,
	}).Run(ctx)
}

func (k *keeping) repaired(ctx context.Context, p *conflist.Plan) {
	k.report(&keptEvent{Event: "repaired", Changes: p.Changes})
	if _, err := k.awaitReload(ctx, k.installer, p, k.reloadWait); err != nil {
		if ctx.Err() != nil {
			return
		}
		k.failed(err)
	}
	k.adopt(ctx)
	k.adoptAgain = k.now().Add(keepLook)
}

func (k *keeping) looked(ctx context.Context) {
	switch lost, err := k.plugin.replaceLost(); {
	case err != nil:
		k.failed(fmt.Errorf("copy plugin again: %w", err))
	case lost:
		k.report(&keptEvent{Event: "plugin copied", Message: k.plugin.Path})
	}
	if !k.adoptAgain.IsZero() && !k.now().Before(k.adoptAgain) {
		k.adoptAgain = time.Time{}
		k.adopt(ctx)
	}
}

// adopt asks for the pods that were made while the entry was not there.
func (k *keeping) adopt(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, adoptTimeout)
	defer cancel()
	found, err := k.client.Adopt(ctx, api.AdoptRequest{})
	if err != nil {
		k.report(&keptEvent{Event: "not adopted", Message: err.Error()})
		return
	}
	k.report(&keptEvent{Event: "adopted", Adopted: found.Count(api.Adopted)})
}

func (k *keeping) failed(err error) {
	k.report(&keptEvent{Event: "failed", Message: err.Error()})
}

func (k *keeping) gaveWay(p *conflist.Plan, repairs int, pause time.Duration) {
	k.report(&keptEvent{Event: "gave way", Message: fmt.Sprintf(
		"something undoes each repair of %s, %d so far: find out what writes it; "+
			"the next look is in %v", p.Active, repairs, pause)})
}

// report prints an event. What cannot be printed must not keep anything from
// being repaired.
func (k *keeping) report(e *keptEvent) {
	e.Time = k.now()
	if k.structured() {
		_ = k.writeItem(e)
		return
	}
	at := e.Time.Format(time.RFC3339)
	switch {
	case e.Event == "adopted":
		fmt.Fprintf(k.out, "%s adopted: %s\n", at, text.Plural(e.Adopted, "pod"))
	case len(e.Changes) == 0:
		fmt.Fprintf(k.out, "%s %s: %s\n", at, e.Event, e.Message)
	}
	for _, c := range e.Changes {
		fmt.Fprintf(k.out, "%s %s: %s: %s\n", at, e.Event, c.Path, c.Action)
	}
}
