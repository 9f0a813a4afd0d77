// SPDX-License-Identifier: Apache-2.0

package generate

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// referenceHeader is what stands above the table.
//
//go:embed reference.md.tmpl
var referenceHeader string

// reference is the README of the chart.
func reference(values []byte) ([]byte, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(values, &root); err != nil {
		return nil, err
	}
	b := bytes.NewBufferString(referenceHeader)
	err := rows(b, "", root.Content[0])
	return b.Bytes(), err
}

// rows writes a row for each value below a node.
func rows(b *bytes.Buffer, prefix string, n *yaml.Node) error {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := prefix + key.Value
		meaning := comment(key)
		if meaning == "" {
			return fmt.Errorf("line %d of values.yaml: %s has no comment", key.Line, name)
		}
		if isGroup(value) {
			fmt.Fprintf(b, "| `%s` | | %s |\n", name, meaning)
			if err := rows(b, name+".", value); err != nil {
				return err
			}
			continue
		}
		text, err := compact(value)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "| `%s` | `%s` | %s%s |\n", name, text, meaning, items(value))
	}
	return nil
}

// isGroup reports whether a value has values that are described.
func isGroup(n *yaml.Node) bool {
	return n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle == 0 && len(n.Content) > 0 &&
		n.Content[0].HeadComment != ""
}

// items says what each item of a list is for.
func items(n *yaml.Node) string {
	var b strings.Builder
	for _, item := range n.Content {
		if said := comment(item); n.Kind == yaml.SequenceNode && said != "" {
			fmt.Fprintf(&b, " `%s` %s.", item.Value, said)
		}
	}
	return b.String()
}

// comment returns the one above a node, as a line of a table.
func comment(n *yaml.Node) string {
	var words []string
	for line := range strings.Lines(n.HeadComment) {
		words = append(words, strings.Fields(strings.TrimPrefix(line, "#"))...)
	}
	return strings.ReplaceAll(strings.Join(words, " "), "|", `\|`)
}

// compact returns a value in one line.
func compact(n *yaml.Node) (string, error) {
	var v any
	if err := n.Decode(&v); err != nil {
		return "", err
	}
	text, err := json.Marshal(v)
	return strings.ReplaceAll(string(text), "|", `\|`), err
}
