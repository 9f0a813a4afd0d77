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
	"slices"
)

// Mode says where the entry goes.
type Mode string

// The modes.
const (
	// Append: to the end of the plugins in the conflist itself.
	Append Mode = "append"
	// DropIn: into a file of its own in the directory of the network's name. Newer
	// runtimes read it after the conflist.
	DropIn Mode = "drop-in"
)

// DropInReaders says which runtimes read drop-ins.
const DropInReaders = "containerd reads it from 2.1.0 on, CRI-O from 1.33.0 on"

// dropInName sorts after the names that other programs are likely to use.
const dropInName = "zz-nsqueue.conf"

// Created and Deleted are what a plan does to whole files.
const (
	Created Action = "created"
	Deleted Action = "deleted"
)

// Change is the change of one file.
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
	// Mode is where the entry goes: not every network allows a drop-in.
	Mode Mode `json:"mode,omitempty"`
	// Changes are in the order in which they have to be made.
	Changes []Change `json:"changes"`

	// Elsewhere are files with the entry whose network is not the active one.
	// Leftovers are files with the entry that runtimes do not read by their names. Both
	// stay as they are.
	Elsewhere []string `json:"elsewhere,omitempty"`
	Leftovers []string `json:"leftovers,omitempty"`

	// dirs are the other directories that have files of the plan, before or after it;
	// networks are those of them that are for drop-ins.
	dirs, networks []string
}

// noteDir notes the directory of a file.
func (p *Plan) noteDir(f *file) {
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
	s, err := Look(i.Dir)
	if err != nil {
		return nil, err
	}
	p := &Plan{Changes: []Change{}}
	s.removeConversions(p)
	if s.active == nil && i.early() {
		return p, i.planEarly(p)
	}
	if s.active == nil && len(p.Changes) == 0 {
		return nil, fmt.Errorf("%w in %s", ErrNoConfig, i.Dir)
	}
	if s.active == nil {
		return p, nil
	}
	if s.Err != nil {
		return nil, s.Err
	}
	p.Active = s.Active
	p.noteDir(s.active.file)
	if err := i.planEntry(p, s); err != nil {
		return nil, fmt.Errorf("%s: %w", p.Active, err)
	}
	return p, nil
}

// planEarly plans the drop-in of a network whose own file is missing so far. Runtimes read
// both together, once that is there.
func (i *Installer) planEarly(p *Plan) error {
	own, _, err := i.dropIns(i.Network)
	if err != nil {
		return err
	}
	p.Network, p.Mode = i.Network, DropIn
	path := filepath.Join(i.Dir, i.Network, dropInName)
	p.Elsewhere = slices.DeleteFunc(p.Elsewhere, func(other string) bool { return other == path })
	if own != nil {
		if same, err := isEntry(i.Entry, own.text); same || err != nil {
			return err
		}
	}
	after, err := encodeEntry(i.Entry, "", "  ")
	if err != nil {
		return err
	}
	return p.write(path, append(after, '\n'))
}

// removeConversions plans to remove the conversions that runtimes do not use, and
// notes the other files with the entry.
func (s *Survey) removeConversions(p *Plan) {
	p.Elsewhere = slices.Clone(s.Elsewhere)
	for n := range s.files {
		f := &s.files[n]
		at := slices.Index(p.Elsewhere, f.path)
		spare := at >= 0 && isConversion(f.name(), f.text)
		if spare {
			p.Elsewhere = slices.Delete(p.Elsewhere, at, at+1)
		}
		if spare || slices.Contains(s.Orphans, f.path) {
			p.remove(f.file)
		}
	}
}

// planEntry plans how the entry gets into the active chain.
func (i *Installer) planEntry(p *Plan, s *Survey) error {
	f := s.active.file
	if isConversion(s.active.name(), f.text) {
		source, err := sourceOf(i.Dir, s.active.name())
		if err != nil {
			return err
		}
		if f, err = read(source); err != nil {
			return err
		}
		return i.planConverted(p, f)
	}
	switch {
	case s.delegate != nil:
		return i.planInDelegate(p, s)
	case !s.active.isList():
		return i.planConverted(p, f)
	}
	return i.planInList(p, f, i.Mode)
}

// planInDelegate plans the entry in the list that a meta plugin delegates pods to,
// and in the plugin's own copy of it, which counts until the plugin renews it.
func (i *Installer) planInDelegate(p *Plan, s *Survey) error {
	f, d := s.active, s.delegate
	if s.OwnDropIn != "" { // or runtimes would call the plugin twice
		own, err := read(s.OwnDropIn)
		if err != nil {
			return err
		}
		p.remove(own)
	}
	if d.source != nil {
		p.noteDir(d.source)
		if err := i.planInList(p, d.source, Append); err != nil {
			return fmt.Errorf("%s: %w", d.source.path, err)
		}
	}
	p.Network, p.Mode = d.network, Append
	bare, action, err := f.text, Unchanged, error(nil)
	if f.isList() { // the same
		if bare, action, err = Remove(f.text); err != nil {
			return err
		}
	}
	if !d.inline {
		p.edit(f.file, bare, action)
		return nil
	}
	return i.planInline(p, f, bare)
}

// planInline plans the entry in the list that a meta plugin has a copy of. bare
// is its file's text without an entry that comes after the plugin.
func (i *Installer) planInline(p *Plan, f *found, bare []byte) error {
	at, err := inlineList(&found{file: &file{path: f.path, text: bare}})
	if err != nil {
		return err
	}
	inline := at.of(bare)
	if _, err := loadList(inline); err != nil {
		return err
	}
	after, action, err := Add(inline, i.Entry)
	if err != nil {
		return err
	}
	if action == Unchanged && !bytes.Equal(bare, f.text) {
		action = Moved
	}
	p.edit(f.file, at.replace(bare, after), action)
	return nil
}

// planInList plans how the entry gets into the chain of a list.
func (i *Installer) planInList(p *Plan, f *file, mode Mode) error {
	l, err := loadList(f.text)
	if err != nil {
		return err
	}
	p.Network, p.Mode = l.Name, mode
	if l.LoadOnlyInlinedPlugins {
		p.Mode = Append
	}
	own, others, err := i.dropIns(l.Name)
	if err != nil {
		return err
	}
	p.networks = append(p.networks, filepath.Join(i.Dir, l.Name))
	if p.Mode == DropIn {
		return i.planDropIn(p, f, own, others)
	}
	after, action, err := Add(f.text, i.Entry)
	if err != nil {
		return err
	}
	if own != nil { // or runtimes would call the plugin twice
		p.remove(own)
	}
	p.edit(f, after, action)
	return nil
}

// planConverted plans the conflist for a .conf file, which stays as it is.
func (i *Installer) planConverted(p *Plan, source *file) error {
	if hasEntry(source.text) {
		return fmt.Errorf("%s has an entry %q that is not in a list of plugins: "+
			"remove the entry", source.path, pluginType)
	}
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

// planDropIn plans a drop-in for the entry, beside so many others.
func (i *Installer) planDropIn(p *Plan, f, own *file, others int) error {
	bare, action, err := Remove(f.text)
	if err != nil {
		return err
	}
	if l, err := parseList(bare); err != nil || len(l.plugins)+others == 0 {
		return errors.Join(err, ErrNoPlugins)
	}
	after, err := encodeEntry(i.Entry, "", "  ")
	if err != nil {
		return err
	}
	p.edit(f, bare, action) // or runtimes would call the plugin twice
	if own != nil {
		if same, err := isEntry(i.Entry, own.text); same || err != nil {
			return err
		}
	}
	return p.write(filepath.Join(i.Dir, p.Network, dropInName), append(after, '\n'))
}

// write plans the content of a file that only nsqueue writes.
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

// IsNetworkName reports whether the specification allows a name. Drop-ins need a
// directory of that name.
func IsNetworkName(name string) bool {
	return regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`).MatchString(name)
}

// dropIns returns nsqueue's drop-in of a network, nil if there is none, and the
// number of other drop-ins.
func (i *Installer) dropIns(network string) (own *file, others int, err error) {
	if !IsNetworkName(network) {
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
			return nil, 0, fmt.Errorf("runtimes would call %s after nsqueue: "+
				"rename it so that it sorts before %s", filepath.Join(dir, e.Name()), dropInName)
		default:
			others++
		}
	}
	return own, others, nil
}

// PlanUninstall says what Uninstall would do now. It changes nothing.
//
// All configurations lose the entry, also those that are not active: they could
// become active when the plugin is gone. Files whose entry cannot be removed are
// among the leftovers.
func (i *Installer) PlanUninstall() (*Plan, error) {
	s, err := Look(i.Dir)
	if err != nil {
		return nil, err
	}
	p := &Plan{Changes: []Change{}, Leftovers: s.Leftovers}
	var errs []error
	for n := range s.files {
		f := &s.files[n]
		switch {
		case f.err != nil:
			errs = append(errs, f.err)
		case !f.counts:
		case f.isList():
			errs = append(errs, i.planRemoval(p, f))
		default:
			p.planInlineRemoval(f, f.text, Unchanged)
		}
	}
	for _, path := range dropInsOfOurs(i.Dir) {
		f, err := read(path)
		if err == nil {
			p.remove(f)
		}
		errs = append(errs, err)
	}
	return p, errors.Join(errs...)
}

// planRemoval plans how the entry gets out of a conflist.
func (i *Installer) planRemoval(p *Plan, f *found) error {
	if isConversion(f.name(), f.text) {
		p.remove(f.file)
		return nil
	}
	l, err := loadList(f.text)
	if err == nil && IsNetworkName(l.Name) {
		p.networks = append(p.networks, filepath.Join(i.Dir, l.Name))
	}
	after, action, err := Remove(f.text)
	switch {
	case errors.Is(err, ErrInvalid) && !bytes.Contains(f.text, []byte(pluginType)):
		return nil // a file of another program that runtimes cannot read either
	case err != nil:
		return fmt.Errorf("%s: %w", f.path, err)
	}
	p.planInlineRemoval(f, after, action)
	return nil
}

// planInlineRemoval plans how the entry gets out of the copy that a meta plugin has;
// after is the text of its file so far.
func (p *Plan) planInlineRemoval(f *found, after []byte, action Action) {
	p.noteDir(f.file)
	if at, err := inlineList(&found{file: &file{path: f.path, text: after}}); err == nil {
		bare, inner, err := Remove(at.of(after))
		if err == nil && inner == Removed {
			after, action = at.replace(after, bare), Removed
		}
	}
	if hasEntry(after) { // within the object of another plugin
		p.Leftovers = append(p.Leftovers, f.path)
	}
	p.edit(f.file, after, action)
}
