// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/nsqueue/nsqueue/internal/atomicfile"
	"github.com/nsqueue/nsqueue/internal/conflist"
)

// pluginName is the type in the entry, and the name of the program.
const pluginName = "nsqueue"

// kept is what is done to a plugin that stays where it is.
const kept conflist.Action = "kept"

// pluginFile is the plugin's program in the directory that runtimes look in.
type pluginFile struct {
	Path   string          `json:"path"`
	Action conflist.Action `json:"action"`

	// source is where it is copied from, "" if it is there already.
	source string
	data   []byte
}

// findPlugin decides what has to be copied: what --plugin names, else the
// program beside this one, else what is there already.
func findPlugin(ctx context.Context, named, binDir string) (*pluginFile, error) {
	p := &pluginFile{Path: filepath.Join(binDir, pluginName), source: named}
	if p.source == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find the plugin beside this program: %w", err)
		}
		p.source = filepath.Join(filepath.Dir(self), pluginName)
		if _, err := os.Stat(p.source); errors.Is(err, fs.ErrNotExist) {
			p.source = ""
		}
	}
	if p.source == "" {
		p.Action = conflist.Unchanged
		if err := checkPlugin(ctx, p.Path); err != nil {
			return nil, fmt.Errorf("%w; name the program to install with --plugin", err)
		}
		return p, nil
	}
	if err := checkPlugin(ctx, p.source); err != nil {
		return nil, err
	}
	return p, p.compare()
}

// compare reads the program, and finds out whether the same one is there already.
func (p *pluginFile) compare() (err error) {
	if p.data, err = os.ReadFile(p.source); err != nil {
		return err
	}
	old, err := os.ReadFile(p.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Action = conflist.Created
	case err != nil:
		return err
	case bytes.Equal(old, p.data):
		p.Action = conflist.Unchanged
	default:
		p.Action = conflist.Updated
	}
	return nil
}

// checkPlugin runs the plugin: with one that does not run, no pod of the node could
// start.
func checkPlugin(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = []string{"CNI_COMMAND=VERSION"}
	cmd.Stdin = strings.NewReader(`{"cniVersion":"1.0.0"}`)
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("run plugin %s: %w", path, err)
	}
	var v struct {
		SupportedVersions []string `json:"supportedVersions"`
	}
	err = json.Unmarshal(out, &v)
	if err != nil || !slices.Contains(v.SupportedVersions, "1.0.0") {
		return fmt.Errorf("run plugin %s: this is not a CNI plugin: %.80q", path, out)
	}
	return nil
}

// install copies the plugin, in one step: a runtime may be about to run it.
func (p *pluginFile) install() error {
	if p.Action == conflist.Unchanged {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(p.Path), 0o755); err != nil {
		return err
	}
	return atomicfile.Replace(p.Path, p.data, &atomicfile.Options{Mode: 0o755})
}

// replaceLost copies the plugin again if it is gone: upgrades of some distributions
// recreate the directory.
func (p *pluginFile) replaceLost() (lost bool, err error) {
	if p.source == "" {
		return false, nil
	}
	if _, err := os.Stat(p.Path); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	again := *p
	if err := again.compare(); err != nil {
		return true, err
	}
	return true, again.install()
}

// remove removes the plugin if its action is Deleted.
func (p *pluginFile) remove() error {
	if p.Action != conflist.Deleted {
		return nil
	}
	return atomicfile.Remove(p.Path, &atomicfile.Options{})
}

// lockDir locks a directory against other processes of ours, without waiting.
func lockDir(dir string, how int) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.Fd()), how|syscall.LOCK_NB); err != nil {
		_ = d.Close()
		return nil, &os.PathError{Op: "lock", Path: dir, Err: err}
	}
	return d, nil
}
