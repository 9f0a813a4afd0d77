// SPDX-License-Identifier: Apache-2.0

// Package record is what the recording plugin writes down of each call, and how
// a test reads it.
package record

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Dir is where calls are recorded, in the node.
const Dir = "/run/cni-calls"

// RealSuffix is what the recording plugin adds to its own path to find the
// plugin that it stands in for.
const RealSuffix = ".real"

// Call is one call of the plugin.
type Call struct {
	// Started is when the runtime called, since boot, Took how long the real plugin
	// ran.
	Started time.Duration `json:"started"`
	Took    time.Duration `json:"took"`
	// Env has the variables that begin with CNI_.
	Env map[string]string `json:"env"`
	// Dir is the working directory.
	Dir string `json:"dir"`
	// Stdin, Stdout and Stderr are what the plugin got and gave.
	Stdin  string `json:"stdin"`
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
	// Code is its exit code.
	Code int `json:"code"`
}

// Command is the CNI verb.
func (c *Call) Command() string { return c.Env["CNI_COMMAND"] }

// ContainerID is whom the call is about.
func (c *Call) ContainerID() string { return c.Env["CNI_CONTAINERID"] }

// Config is the network configuration, as far as it is an object.
func (c *Call) Config() (map[string]json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(c.Stdin), &m); err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", c.Command(), err)
	}
	return m, nil
}

// Save writes the call to the directory. A reader never sees half of it.
func (c *Call) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	name := filepath.Join(dir, fmt.Sprintf("%d-%d", c.Started, os.Getpid()))
	if err := os.WriteFile(name+".part", b, 0o644); err != nil {
		return err
	}
	return os.Rename(name+".part", name+".json")
}

// Load reads all calls of the directory in the order in which they came.
func Load(dir string) ([]*Call, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var calls []*Call
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		c := &Call{}
		if err := json.Unmarshal(b, c); err != nil {
			return nil, fmt.Errorf("read call %s: %w", file, err)
		}
		calls = append(calls, c)
	}
	slices.SortFunc(calls, func(a, b *Call) int { return cmp.Compare(a.Started, b.Started) })
	return calls, nil
}
