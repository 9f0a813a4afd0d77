// SPDX-License-Identifier: Apache-2.0

package conflist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
)

// A meta plugin, such as multus, is a .conf file that delegates each pod to the
// network of another file: it has a copy of that file, which it renews when the file
// changes, or the file's name. It takes the first file of the directory for that
// network. A conflist that is converted from the meta plugin's own file would be
// that first file, and the plugin would delegate each pod to itself.

// ErrDelegate says that a meta plugin delegates pods to a network that cannot have
// the entry.
var ErrDelegate = errors.New("nsqueue cannot be added to the network of a meta plugin")

// delegate is the network that a meta plugin delegates pods to.
type delegate struct {
	via     string // its type
	network string
	chain   Chain
	// inline: the plugin's file has a copy of the list, and not only its name.
	inline bool
	// source is the file of the network in the same directory, if it is there.
	source *file
}

func (d *delegate) isSource(path string) bool {
	return d != nil && d.source != nil && d.source.path == path
}

// isMeta reports whether a single plugin delegates pods to other networks.
func isMeta(plugin []byte) bool { return parseMeta(plugin).isMeta() }

// meta is what says where a meta plugin delegates pods to.
type meta struct {
	plugin, clusterNetwork string
	delegates              bool
}

// parseMeta reads as much of a plugin's object as there is.
func parseMeta(text []byte) meta {
	object, err := parseObject(text)
	if err != nil {
		return meta{}
	}
	var m meta
	_ = json.Unmarshal(object["type"], &m.plugin) // other plugins may have anything there
	_ = json.Unmarshal(object["clusterNetwork"], &m.clusterNetwork)
	m.delegates = bytes.HasPrefix(object["delegates"], []byte("["))
	return m
}

func (m meta) isMeta() bool {
	return isMultus(m.plugin) || m.clusterNetwork != "" || m.delegates
}

// isMultus covers multus-shim, too.
func isMultus(plugin string) bool { return strings.HasPrefix(plugin, "multus") }

// findDelegate returns what the file of a meta plugin delegates pods to; nil for
// other files.
func (s *Survey) findDelegate(f *found) (*delegate, error) {
	at, ok := metaPlugin(f)
	if !ok {
		return nil, nil
	}
	m := parseMeta(at.of(f.text))
	d := &delegate{via: m.plugin}
	if m.clusterNetwork != "" { // multus looks at it first
		d.source = s.sourceNamed(f, m.clusterNetwork)
		if d.source == nil {
			return nil, d.refuse(fmt.Sprintf("its clusterNetwork %q is no .conflist file "+
				"in this directory", m.clusterNetwork))
		}
		return d, d.load(d.source.text)
	}
	inline, err := inlineList(f)
	if err != nil {
		return nil, d.refuse(err.Error())
	}
	d.inline = true
	if err := d.load(inline.of(f.text)); err != nil {
		return nil, err
	}
	d.source = s.sourceNamed(f, d.network)
	return d, nil
}

// metaPlugin returns where the meta plugin of a file is: the whole file, or the
// only other plugin of its list.
func metaPlugin(f *found) (at span, ok bool) {
	if !f.isList() {
		return span{0, len(f.text)}, isMeta(f.text)
	}
	l, err := parseList(f.text)
	if err != nil {
		return span{}, false
	}
	plugins := slices.DeleteFunc(l.plugins, element.isOurs)
	if len(plugins) != 1 {
		return span{}, false
	}
	return plugins[0].span, isMeta(plugins[0].of(f.text))
}

// inlineList returns where in a file the list is that a meta plugin delegates pods
// to: the first of its delegates, which makes eth0.
func inlineList(f *found) (span, error) {
	at, ok := metaPlugin(f)
	if !ok {
		return span{}, errors.New("it is not a meta plugin")
	}
	text := at.of(f.text)
	list, ok := member(text, "delegates")
	if !ok || text[list.start] != '[' {
		return span{}, errors.New("it has no clusterNetwork and no delegates")
	}
	all := elements(text, list.start)
	if len(all) == 0 {
		return span{}, errors.New("its delegates are empty")
	}
	if raw := all[0].of(text); raw[0] == '{' {
		if _, ok := member(raw, "plugins"); ok {
			return span{at.start + all[0].start, at.start + all[0].end}, nil
		}
	}
	return span{}, errors.New("its first delegate is a single plugin, not a list")
}

func (d *delegate) refuse(why string) error {
	return fmt.Errorf("%w: %s: %s; let it delegate to a .conflist file",
		ErrDelegate, d.via, why)
}

// load reads the list that pods are delegated to.
func (d *delegate) load(text []byte) error {
	l, err := libcni.NetworkConfFromBytes(text)
	if err == nil {
		d.network = l.Name
		d.chain, err = ParseChain(text)
	}
	if err != nil {
		return d.refuse("it delegates pods to an invalid list: " + err.Error())
	}
	if slices.ContainsFunc(d.chain.Plugins, isMultus) {
		return d.refuse("it delegates pods to itself: restart it")
	}
	return nil
}

// sourceNamed returns the list that a meta plugin calls by the name of its
// network, or of its file, or by a path that may be one in the plugin's
// container.
func (s *Survey) sourceNamed(by *found, name string) *file {
	for n := range s.files {
		f := &s.files[n]
		if f.path == by.path || f.err != nil || !f.counts || !f.isList() {
			continue
		}
		base := filepath.Base(name)
		l, err := libcni.NetworkConfFromBytes(f.text)
		named := err == nil && l.Name == name ||
			base == f.name() || base+filepath.Ext(f.path) == f.name()
		if named && !isConversion(f.name(), f.text) {
			return f.file
		}
	}
	return nil
}
