// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// fieldError is what is wrong with a field that is named as in inspectors[1].socket.
type fieldError struct {
	field string
	err   error
}

// Error names the field.
func (e *fieldError) Error() string { return e.field + ": " + e.err.Error() }

// Unwrap returns what is wrong.
func (e *fieldError) Unwrap() error { return e.err }

// at says in which field an error is.
func at(field string, err error) error {
	if err == nil {
		return nil
	}
	return &fieldError{field, err}
}

// withLines adds to errors in fields the lines where a file has them.
func withLines(file []byte, err error) error {
	var document yaml.Node
	if err == nil || yaml.Unmarshal(file, &document) != nil || len(document.Content) == 0 {
		return err
	}
	return addLines(document.Content[0], err)
}

func addLines(root *yaml.Node, err error) error {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		var list []error
		for _, one := range all.Unwrap() {
			list = append(list, addLines(root, one))
		}
		return errors.Join(list...)
	}
	if field, ok := errors.AsType[*fieldError](err); ok {
		return fmt.Errorf("line %d: %w", lineOf(root, field.field), err)
	}
	return err
}

// lineOf returns the line of a field, or of the nearest one around it that the file has.
func lineOf(n *yaml.Node, field string) int {
	line := n.Line
	for _, part := range regexp.MustCompile(`[^.\[\]]+`).FindAllString(field, -1) {
		key, value := child(n, part)
		if value == nil {
			break
		}
		n, line = value, key.Line
	}
	return line
}

// child returns an element of a list, or a field of a mapping with its key.
func child(n *yaml.Node, name string) (key, value *yaml.Node) {
	if n.Kind == yaml.SequenceNode {
		if i, err := strconv.Atoi(name); err == nil && i < len(n.Content) {
			return n.Content[i], n.Content[i]
		}
		return nil, nil
	}
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}
