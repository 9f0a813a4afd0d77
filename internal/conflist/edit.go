// SPDX-License-Identifier: Apache-2.0

// Package conflist adds the entry of nsqueue to the end of a chain of CNI plugins,
// and removes it. Everything else stays as it is, byte for byte.
//
// [Add] and [Remove] edit a text. An [Installer] edits the files of the directory
// that a runtime reads, and a [Watcher] repeats that whenever another program undoes
// it. The package starts no goroutine; package atomicfile replaces the files.
package conflist

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/nsqueue/nsqueue/internal/cnipod"
)

// ErrNoPlugins says that nsqueue is, or would be, the only plugin of a chain. It
// needs a plugin before it, which makes the pod's network.
var ErrNoPlugins = errors.New("the chain has no plugin besides nsqueue")

// Action is what an edit has done, or would do.
type Action string

// The actions.
const (
	Unchanged Action = "unchanged" // the entry was there, as it should be
	Added     Action = "added"
	Updated   Action = "updated" // it was there with other options
	Moved     Action = "moved"   // it was there, but not at the end, or twice
	Removed   Action = "removed"
)

// Add adds the entry to the end of the plugins in the text of a conflist, and
// indents it as its neighbours are. Everything else stays as it is, byte for byte.
func Add(text []byte, e *cnipod.Entry) ([]byte, Action, error) {
	l, err := parseList(text)
	if err != nil {
		return nil, "", err
	}
	action := Added
	if first := slices.IndexFunc(l.plugins, element.isOurs); first >= 0 {
		last := len(l.plugins) - 1
		if first == last {
			same, err := isEntry(e, l.plugins[last].of(text))
			if err != nil {
				return nil, "", err
			}
			if same && last > 0 {
				return text, Unchanged, nil
			}
			action = Updated
		} else {
			action = Moved
		}
		if text, _, err = Remove(text); err != nil {
			return nil, "", err
		}
		if l, err = parseList(text); err != nil {
			return nil, "", err
		}
	}
	if len(l.plugins) == 0 {
		return nil, "", ErrNoPlugins
	}
	inserted, err := l.insertion(text, e)
	if err != nil {
		return nil, "", err
	}
	end := l.plugins[len(l.plugins)-1].end
	return slices.Concat(text[:end], inserted, text[end:]), action, nil
}

// insertion returns what has to be inserted after the last plugin.
func (l *list) insertion(text []byte, e *cnipod.Entry) ([]byte, error) {
	last := l.plugins[len(l.plugins)-1]
	from := l.open + 1
	if n := len(l.plugins); n > 1 {
		from = l.plugins[n-2].end
	}
	// The space between the comma, or the bracket, and the last plugin goes before the
	// entry as well.
	space := string(text[from:last.start])
	space = space[strings.IndexByte(space, ',')+1:]
	indent, unit := "", ""
	if i := strings.LastIndexByte(space, '\n'); i >= 0 {
		indent = space[i+1:]
		unit = innerIndent(last.of(text), indent)
	}
	entry, err := encodeEntry(e, indent, unit)
	if err != nil {
		return nil, err
	}
	if strings.Contains(space, "\r\n") {
		entry = bytes.ReplaceAll(entry, []byte("\n"), []byte("\r\n"))
	}
	return slices.Concat([]byte(","), []byte(space), entry), nil
}

// innerIndent returns by how much the members of an object are indented more than
// the object; nothing if it is on one line.
func innerIndent(object []byte, indent string) string {
	i := bytes.IndexByte(object, '\n')
	if i < 0 {
		return ""
	}
	inner := object[i+1 : skipSpace(object, i+1)]
	inner = inner[bytes.LastIndexByte(inner, '\n')+1:]
	if unit, ok := strings.CutPrefix(string(inner), indent); ok && unit != "" {
		return unit
	}
	return "  "
}

// Remove removes every entry of nsqueue from the text of a conflist. It undoes Add
// byte for byte.
func Remove(text []byte) ([]byte, Action, error) {
	action := Unchanged
	for {
		l, err := parseList(text)
		if err != nil {
			return nil, "", err
		}
		i := slices.IndexFunc(l.plugins, element.isOurs)
		if i < 0 {
			return text, action, nil
		}
		var cut span
		switch {
		case i > 0:
			cut = span{l.plugins[i-1].end, l.plugins[i].end}
		case len(l.plugins) > 1:
			cut = span{l.plugins[0].start, l.plugins[1].start}
		default:
			return nil, "", ErrNoPlugins
		}
		text = slices.Concat(text[:cut.start], text[cut.end:])
		action = Removed
	}
}
