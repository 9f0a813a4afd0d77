// SPDX-License-Identifier: Apache-2.0

package conflist

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Mode says where the entry goes.
type Mode string

// The modes.
const (
	// Append: to the end of the plugins in the conflist itself.
	Append Mode = "append"
	// DropIn: into a file of its own, in the directory of the network's name,
	// which newer runtimes read after the conflist. Nobody else writes that file.
	DropIn Mode = "drop-in"
)

// dropInName sorts behind what others are likely to put there.
const dropInName = "zz-nsqueue.conf"

// Created and Deleted are what a plan does to whole files.
const (
	Created Action = "created"
	Deleted Action = "deleted"
)

// Change is what is to become of one file.
type Change struct {
	// Path is where the file is: the target of a symbolic link.
	Path   string `json:"path"`
	Action Action `json:"action"`
	// Before and After are its content; nil where there is no such file.
	Before []byte `json:"-"`
	After  []byte `json:"-"`

	// found is the path that led to it.
	found string
}

// Plan is what has to change in a directory.
type Plan struct {
	// Active is the file of the pods' network. It is empty in a plan to uninstall.
	Active string `json:"active,omitempty"`
	// Network is its name.
	Network string `json:"network,omitempty"`
	// Mode is where the entry is then: not everywhere can it be in a file of its own.
	Mode Mode `json:"mode,omitempty"`
	// Changes are in the order in which they have to be made.
	Changes []Change `json:"changes"`

	// dirs are the directories, besides the one, that have files of ours, or had
	// or will have, networks those of drop-ins among them.
	dirs, networks []string
}

// visit notes where a file is.
func (p *Plan) visit(f *file) {
	if dir := filepath.Dir(f.target); dir != filepath.Dir(f.path) {
		p.dirs = append(p.dirs, dir)
	}
}

// edit adds the change of a file's text.
func (p *Plan) edit(f *file, after []byte, action Action) {
	if action != Unchanged {
		p.Changes = append(p.Changes, Change{f.target, action, f.text, after, f.path})
	}
}

func (p *Plan) remove(f *file) {
	p.Changes = append(p.Changes, Change{f.path, Deleted, f.text, nil, f.path})
}

// Plan says what Install would do now. It changes nothing.
func (i *Installer) Plan() (*Plan, error) {
	names, err := configFiles(i.Dir)
	if err != nil {
		return nil, err
	}
	p := &Plan{Changes: []Change{}}
	for _, name := range names {
		f, err := read(filepath.Join(i.Dir, name))
		if err != nil {
			return nil, err
		}
		p.Active = f.path
		p.visit(f)
		if isConversion(name, f.text) {
			source, err := sourceOf(i.Dir, name)
			if err != nil {
				return nil, err
			}
			if source == "" { // its network is gone, and with it what was made of it
				p.remove(f)
				continue
			}
			if f, err = read(source); err != nil {
				return nil, err
			}
		}
		if err := i.enter(p, f); err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, err)
		}
		return p, nil
	}
	return nil, fmt.Errorf("%w in %s", ErrNoConfig, i.Dir)
}

// enter plans how the entry gets into a file's chain.
func (i *Installer) enter(p *Plan, f *file) error {
	if filepath.Ext(f.path) != ".conflist" {
		return i.enterConverted(p, f)
	}
	l, err := loadList(f.text)
	if err != nil {
		return err
	}
	p.Network, p.Mode = l.Name, i.Mode
	if l.LoadOnlyInlinedPlugins {
		p.Mode = Append
	}
	own, others, err := i.dropIns(l.Name)
	if err != nil {
		return err
	}
	p.networks = append(p.networks, filepath.Join(i.Dir, l.Name))
	if p.Mode == DropIn {
		return i.enterDropIn(p, f, own, others)
	}
	after, action, err := Add(f.text, i.Entry)
	if err != nil {
		return err
	}
	if own != nil { // else the plugin would be called twice
		p.remove(own)
	}
	p.edit(f, after, action)
	return nil
}

// enterConverted plans the conflist for a .conf file, which stays as it is.
func (i *Installer) enterConverted(p *Plan, source *file) error {
	bare, err := convert(source.text)
	if err != nil {
		return err
	}
	l, err := loadList(bare)
	if err != nil {
		return err
	}
	after, _, err := Add(bare, i.Entry)
	if err != nil {
		return err
	}
	p.Network, p.Mode = l.Name, Append
	p.Active = filepath.Join(i.Dir, conversionName(filepath.Base(source.path)))
	return p.write(p.Active, after)
}

// enterDropIn plans a file of its own for the entry, beside so many others.
func (i *Installer) enterDropIn(p *Plan, f, own *file, others int) error {
	bare, action, err := Remove(f.text)
	if err != nil {
		return err
	}
	if l, err := parseList(bare); err != nil || len(l.plugins)+others == 0 {
		return errors.Join(err, ErrNoPlugins)
	}
	after, err := i.Entry.text("", "  ")
	if err != nil {
		return err
	}
	p.edit(f, bare, action) // else the plugin would be called twice
	if own != nil {
		if same, err := i.Entry.equals(own.text); same || err != nil {
			return err
		}
	}
	return p.write(filepath.Join(i.Dir, p.Network, dropInName), append(after, '\n'))
}

// write plans the content of a file that is all ours.
func (p *Plan) write(path string, after []byte) error {
	f, err := read(path)
	switch {
	case errors.Is(err, ErrChanged): // it is not there
		p.Changes = append(p.Changes, Change{path, Created, nil, after, path})
	case err != nil:
		return err
	case !bytes.Equal(f.text, after):
		p.edit(f, after, Updated)
	}
	return nil
}

// networkName is what the specification allows. Others make no directory.
const networkName = `^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`

// dropIns returns our file in the directory of a network, nil if there is
// none, and the number of the others.
func (i *Installer) dropIns(network string) (own *file, others int, err error) {
	if !regexp.MustCompile(networkName).MatchString(network) {
		return nil, 0, fmt.Errorf("%w: network name %q", ErrInvalid, network)
	}
	dir := filepath.Join(i.Dir, network)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, 0, err
	}
	for _, e := range entries {
		switch {
		case e.Name() == dropInName:
			if own, err = read(filepath.Join(dir, dropInName)); err != nil {
				return nil, 0, err
			}
		case e.IsDir() || filepath.Ext(e.Name()) != ".conf":
		case e.Name() > dropInName && i.Mode == DropIn:
			return nil, 0, fmt.Errorf("%s would be called after nsqueue: give it a name before %s",
				filepath.Join(dir, e.Name()), dropInName)
		default:
			others++
		}
	}
	return own, others, nil
}

// PlanUninstall says what Uninstall would do now. It changes nothing.
//
// All configurations lose their entry, also those that are not active: they
// could become so when the plugin is gone.
func (i *Installer) PlanUninstall() (*Plan, error) {
	names, err := configFiles(i.Dir)
	if err != nil {
		return nil, err
	}
	p := &Plan{Changes: []Change{}}
	var errs []error
	for _, name := range names {
		if strings.HasSuffix(name, ".conflist") {
			errs = append(errs, i.leave(p, name))
		}
	}
	paths, err := filepath.Glob(filepath.Join(i.Dir, "*", dropInName))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		f, err := read(path)
		if err == nil {
			p.remove(f)
		}
		errs = append(errs, err)
	}
	return p, errors.Join(errs...)
}

// leave plans how the entry gets out of a conflist.
func (i *Installer) leave(p *Plan, name string) error {
	f, err := read(filepath.Join(i.Dir, name))
	if err != nil {
		return err
	}
	if isConversion(name, f.text) {
		p.remove(f)
		return nil
	}
	p.visit(f)
	l, err := loadList(f.text)
	if err == nil && regexp.MustCompile(networkName).MatchString(l.Name) {
		p.networks = append(p.networks, filepath.Join(i.Dir, l.Name))
	}
	after, action, err := Remove(f.text)
	switch {
	case errors.Is(err, ErrInvalid) && !bytes.Contains(f.text, []byte(pluginType)):
		return nil // it is somebody else's, and runtimes do not read it either
	case err != nil:
		return fmt.Errorf("%s: %w", f.path, err)
	}
	p.edit(f, after, action)
	return nil
}
