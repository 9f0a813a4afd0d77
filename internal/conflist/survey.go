// SPDX-License-Identifier: Apache-2.0

package conflist

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nsqueue/nsqueue/internal/atomicfile"
)

// Unusable is the error of a first file that runtimes cannot use.
type Unusable struct {
	Path string
	// Err says what is wrong with it.
	Err error
}

// Error says what runtimes do about it.
func (u *Unusable) Error() string { return u.Path + ": " + u.What() }

// What is the error without the path.
func (u *Unusable) What() string {
	return u.Err.Error() + "; containerd takes no new pods because of this file, CRI-O skips it"
}

// Unwrap is what is wrong with the file.
func (u *Unusable) Unwrap() error { return u.Err }

// Survey is what a directory of configurations says to a runtime, and where the
// entry of nsqueue is in it. Install, uninstall and doctor begin with it.
type Survey struct {
	// Active is the file that runtimes use: the first by name, orphans aside. It is
	// empty where there is none.
	Active string
	// Err says why its chain is unknown: it is [Unusable], or a meta plugin delegates
	// pods to a network that is not in the directory.
	Err error
	// Network is the name of the active network.
	Network string
	// Via is the type of the meta plugin that delegates pods to the chain, if there is
	// one.
	Via string
	// Inline is the chain in the file itself. Drop-ins come after it, in runtimes
	// that read them; OwnDropIn is the path of nsqueue's.
	Inline    Chain
	DropIns   Chain
	OwnDropIn string
	// Outdated is the source of the active conversion, where that is of an earlier
	// text.
	Outdated string
	// Orphans are conversions whose source is gone, or is a meta plugin.
	Orphans []string
	// Elsewhere are files with the entry whose network is not the active one.
	Elsewhere []string
	// Leftovers are files with the entry that runtimes do not read by their names.
	Leftovers []string

	active   *found
	files    []found
	delegate *delegate
}

// found is a file of the directory.
type found struct {
	*file
	// err says why it could not be read; file has its path alone then.
	err error
	// counts: runtimes read files of that name.
	counts bool
}

func (f *found) name() string { return filepath.Base(f.path) }

func (f *found) isList() bool { return filepath.Ext(f.path) == ".conflist" }

// Look surveys a directory.
func Look(dir string) (*Survey, error) {
	s := &Survey{}
	if err := s.readAll(dir); err != nil {
		return nil, err
	}
	spare := s.chooseActive(dir)
	if s.active != nil {
		s.Active = s.active.path
		s.Err = s.readChain(dir)
	}
	s.findEntries(dir, spare)
	return s, nil
}

// readAll reads the regular files of a directory, and what runtimes take for such.
func (s *Survey) readAll(dir string) error {
	entries, err := os.ReadDir(dir) // sorted as runtimes sort
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		f := found{file: &file{path: filepath.Join(dir, e.Name())}, counts: isConfig(e.Name())}
		if e.IsDir() || strings.HasPrefix(e.Name(), atomicfile.Prefix) {
			continue
		}
		if !f.counts && !mayBecomeConfig(f.path) {
			continue
		}
		text, err := read(f.path)
		if err == nil {
			f.file = text
		} else if f.err = err; !f.counts && errors.Is(err, ErrChanged) {
			continue
		}
		s.files = append(s.files, f)
	}
	return nil
}

// maxConfig is far more than any configuration has.
const maxConfig = 4 << 20

// mayBecomeConfig reports whether a file could be a configuration under another name.
func mayBecomeConfig(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() <= maxConfig
}

// chooseActive finds the active file, and returns the conversions after it whose
// source is still there.
func (s *Survey) chooseActive(dir string) (spare []string) {
	for n := range s.files {
		f := &s.files[n]
		if !f.counts {
			continue
		}
		conversion := f.err == nil && isConversion(f.name(), f.text)
		switch {
		case conversion && isOrphan(dir, f.name()):
			s.Orphans = append(s.Orphans, f.path)
		case s.active == nil:
			s.active = f
		case conversion:
			spare = append(spare, f.path)
		}
	}
	return spare
}

// readChain reads the chain of the active file.
func (s *Survey) readChain(dir string) error {
	f := s.active
	if f.err != nil {
		return &Unusable{f.path, f.err}
	}
	if !f.isList() {
		return s.readSingle(f)
	}
	l, err := loadList(f.text)
	if l == nil {
		return &Unusable{f.path, err}
	}
	if s.Inline, err = ParseChain(f.text); err != nil {
		return &Unusable{f.path, err}
	}
	s.Network = l.Name
	s.Outdated = outdated(dir, f)
	// The entry can be in a list of a meta plugin in any case.
	if d, err := s.findDelegate(f); err == nil && d != nil {
		s.useDelegate(d)
	}
	if l.LoadOnlyInlinedPlugins || !IsNetworkName(l.Name) {
		return nil
	}
	return s.readDropIns(filepath.Join(dir, l.Name))
}

// outdated returns the source of a conversion where that has changed since.
func outdated(dir string, f *found) string {
	if !isConversion(f.name(), f.text) {
		return ""
	}
	source, err := sourceOf(dir, f.name())
	if err != nil || source == "" {
		return ""
	}
	now, err := read(source)
	if err != nil {
		return ""
	}
	bare, _, _ := Remove(f.text) // a conversion is valid
	if again, err := convert(now.text); err == nil && bytes.Equal(again, bare) {
		return ""
	}
	return source
}

// readSingle reads a file that has one plugin and no list.
func (s *Survey) readSingle(f *found) error {
	if _, err := loadSingle(f.text); err != nil {
		return &Unusable{f.path, err}
	}
	d, err := s.findDelegate(f)
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	if d != nil {
		s.useDelegate(d)
	}
	return nil
}

// useDelegate puts the chain of a delegate in the place of the meta plugin.
func (s *Survey) useDelegate(d *delegate) {
	s.delegate, s.Via, s.Network = d, d.via, d.network
	rest := s.Inline
	s.Inline = d.chain
	if rest.Entries() > 0 {
		s.Inline.Plugins = append(slices.Clone(d.chain.Plugins), pluginType)
		s.Inline.Socket = rest.Socket
	}
}

// readDropIns reads the plugins of a network that are in files of their own.
func (s *Survey) readDropIns(dir string) error {
	paths, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*.conf"))
	if err != nil {
		return err
	}
	for _, path := range paths { // sorted as runtimes sort
		f, err := read(path)
		if errors.Is(err, ErrChanged) {
			continue
		}
		if err != nil {
			return &Unusable{s.Active, err}
		}
		if err := s.DropIns.add(f.text); err != nil {
			return &Unusable{s.Active, fmt.Errorf("%s: %w", path, err)}
		}
		if filepath.Base(path) == dropInName {
			s.OwnDropIn = path
		}
	}
	return nil
}

// escapeGlob escapes the special characters of a pattern.
func escapeGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(dir)
}

// Chain returns the plugins that a runtime calls for a pod, with drop-ins or without.
func (s *Survey) Chain(dropIns bool) Chain {
	c := s.Inline
	if !dropIns || s.OwnDropIn == "" && len(s.DropIns.Plugins) == 0 {
		return c
	}
	c.Plugins = slices.Concat(c.Plugins, s.DropIns.Plugins)
	if s.DropIns.Socket != "" {
		c.Socket = s.DropIns.Socket
	}
	return c
}

// findEntries looks for entries that runtimes do not use.
func (s *Survey) findEntries(dir string, spare []string) {
	for n := range s.files {
		f := &s.files[n]
		switch {
		case f.err != nil || f.path == s.Active || !hasEntry(f.text):
		case slices.Contains(s.Orphans, f.path), s.delegate.isSource(f.path):
		case f.counts:
			s.Elsewhere = append(s.Elsewhere, f.path)
		default:
			s.Leftovers = append(s.Leftovers, f.path)
		}
	}
	for _, path := range spare {
		if !slices.Contains(s.Elsewhere, path) {
			s.Elsewhere = append(s.Elsewhere, path)
		}
	}
	for _, path := range dropInsOfOurs(dir) {
		if path != s.OwnDropIn {
			s.Elsewhere = append(s.Elsewhere, path)
		}
	}
}

// dropInsOfOurs returns nsqueue's files in the directories of all networks.
func dropInsOfOurs(dir string) []string {
	// The pattern is valid: its special characters are escaped.
	paths, _ := filepath.Glob(filepath.Join(escapeGlob(dir), "*", dropInName))
	return paths
}
