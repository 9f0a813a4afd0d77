// SPDX-License-Identifier: Apache-2.0

// Package answers reads the JSON that nsqueuectl prints on nodes, and says in it which node
// it is of. It keeps what it does not know: the node may be newer than this program.
package answers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// NodeKey is where an object has the name of its node.
const NodeKey = "node"

// errNode keeps a node from passing for another one: programs take the last one of two keys.
var errNode = errors.New("the object says already which node it is of")

// OfNode returns a JSON object with the name of its node in front.
func OfNode(node string, object []byte) (json.RawMessage, error) {
	object = bytes.TrimSpace(object)
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(object, &keys); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if keys == nil {
		return nil, errors.New("read the answer: it is no JSON object")
	}
	for key := range keys {
		if strings.EqualFold(key, NodeKey) {
			return nil, fmt.Errorf("read the answer: %w", errNode)
		}
	}
	name, err := json.Marshal(node)
	if err != nil {
		return nil, err
	}
	b := append([]byte(`{"`+NodeKey+`":`), name...)
	rest := bytes.TrimSpace(object[1:])
	if len(keys) > 0 {
		b = append(b, ',')
	}
	return append(b, rest...), nil
}

// Items returns the objects of the list that an object has at a key, each with the name of
// the node.
func Items(node string, object []byte, key string) ([]json.RawMessage, error) {
	var lists map[string]json.RawMessage
	if err := json.Unmarshal(object, &lists); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	var list []json.RawMessage
	if raw, found := lists[key]; found {
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, fmt.Errorf("read the answer's %s: %w", key, err)
		}
	}
	for i, item := range list {
		var err error
		if list[i], err = OfNode(node, item); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Read reads an object.
func Read[T any](object []byte) (T, error) {
	var v T
	if err := json.Unmarshal(object, &v); err != nil {
		return v, fmt.Errorf("read the answer: %w", err)
	}
	return v, nil
}
