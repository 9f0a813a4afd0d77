// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// reader reads the nodes of a file and notes what is wrong with them.
type reader struct {
	source *source
	errs   *Errors
	// inspector says why rules cannot use an inspector. Nil: they can use all.
	inspector func(name string) error
}

// field is a key that a mapping may have.
type field struct {
	name     string
	required bool
	read     func(*yaml.Node)
}

func (r *reader) errorf(n *yaml.Node, format string, args ...any) {
	r.errorAt(n.Line, n.Column, format, args...)
}

func (r *reader) errorAt(line, column int, format string, args ...any) {
	*r.errs = append(*r.errs, Error{
		File: r.source.name, Line: max(line, 1), Column: max(column, 1),
		Text: fmt.Sprintf(format, args...),
	})
}

// documents returns the documents of a file that are not empty.
func (r *reader) documents(data []byte) []*yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var list []*yaml.Node
	for {
		var node yaml.Node
		err := decoder.Decode(&node)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			r.syntax(err)
			return list
		}
		if len(node.Content) == 1 && node.Content[0].Tag != "!!null" {
			list = append(list, node.Content[0])
		}
	}
}

// syntax notes what the parser of YAML says. Its text has the line.
func (r *reader) syntax(err error) {
	line := 1
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if at := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(text); at != nil {
		line, _ = strconv.Atoi(at[1])
		text = text[len(at[0]):]
	}
	r.errorAt(line, 1, "this is no YAML: %s", text)
}

// mapping reads a mapping that has these fields and no others.
func (r *reader) mapping(n *yaml.Node, what string, fields ...field) {
	seen := make(map[string]bool)
	r.pairs(n, what, func(key, value *yaml.Node) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == key.Value })
		if i < 0 {
			r.errorf(key, "%s has no field %q: it has %s", what, key.Value, names(fields))
			return
		}
		seen[key.Value] = true
		fields[i].read(value)
	})
	for _, f := range fields {
		if f.required && !seen[f.name] && n.Kind == yaml.MappingNode {
			r.errorf(n, "%s needs the field %s", what, f.name)
		}
	}
}

func names(fields []field) string {
	list := make([]string, len(fields))
	for i, f := range fields {
		list[i] = f.name
	}
	return strings.Join(list, ", ")
}

// pairs calls use with each key of a mapping and its value.
func (r *reader) pairs(n *yaml.Node, what string, use func(key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.wrongKind(n, what, "fields, as in name: value")
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			r.errorf(key, "a key of %s is a plain word", what)
			continue
		}
		if seen[key.Value] {
			r.errorf(key, "%s has the field %q twice: keep one", what, key.Value)
			continue
		}
		seen[key.Value] = true
		use(key, value)
	}
}

// list calls use with each element of a list.
func (r *reader) list(n *yaml.Node, what string, use func(*yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		r.wrongKind(n, what, "a list, as in [a, b]")
		return
	}
	for _, one := range n.Content {
		use(one)
	}
}

func (r *reader) wrongKind(n *yaml.Node, what, want string) {
	if n.Kind == yaml.AliasNode {
		r.errorf(n, "%s is an alias, which rules do not have: write it out", what)
		return
	}
	r.errorf(n, "%s is %s", what, want)
}

// text returns the text of a scalar.
func (r *reader) text(n *yaml.Node, what string) string {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		r.wrongKind(n, what, "a text")
		return ""
	}
	return n.Value
}

func (r *reader) number(n *yaml.Node, what string, least, most int) int {
	number, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || number < least || number > most {
		r.wrongKind(n, what, fmt.Sprintf("a number from %d to %d", least, most))
		return 0
	}
	return number
}

func (r *reader) flag(n *yaml.Node, what string) bool {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
		r.wrongKind(n, what, "true or false")
		return false
	}
	return strings.EqualFold(n.Value, "true")
}

// word returns the index of a scalar's text in a list of words.
func (r *reader) word(n *yaml.Node, what string, words ...string) int {
	if i := slices.Index(words, n.Value); i >= 0 && n.Kind == yaml.ScalarNode {
		return i
	}
	if n.Kind == yaml.AliasNode {
		r.wrongKind(n, what, "")
		return 0
	}
	r.errorf(n, "%s is one of %s, not %q", what, strings.Join(words, ", "), n.Value)
	return 0
}
