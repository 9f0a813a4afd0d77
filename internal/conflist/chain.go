// SPDX-License-Identifier: Apache-2.0

package conflist

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// Chain is what a CNI configuration says of the order of its plugins.
type Chain struct {
	// Plugins are their types in the order in which ADD runs them; none where the
	// configuration is no list.
	Plugins []string
	// Socket is where the entry of nsqueue looks for nsqueued.
	Socket string
}

// ParseChain reads a CNI configuration as libcni does.
func ParseChain(text []byte) (Chain, error) {
	l, err := parseList(text)
	if err != nil {
		return Chain{}, err
	}
	c := Chain{Socket: api.DefaultSocket}
	for _, e := range l.plugins {
		if err := c.add(e.of(text)); err != nil {
			return Chain{}, err
		}
	}
	return c, nil
}

// add appends one plugin's object.
func (c *Chain) add(plugin []byte) error {
	name, err := typeOf(plugin)
	if err != nil {
		return err
	}
	c.Plugins = append(c.Plugins, name)
	if name != pluginType {
		return nil
	}
	var entry struct {
		Socket string `json:"socket"`
	}
	if err := json.Unmarshal(plugin, &entry); err != nil {
		return fmt.Errorf("%w: entry %s: %w", ErrInvalid, pluginType, err)
	}
	c.Socket = cmp.Or(entry.Socket, api.DefaultSocket)
	return nil
}

// Entries returns how many of the plugins are nsqueue.
func (c *Chain) Entries() int {
	n := 0
	for _, plugin := range c.Plugins {
		if plugin == pluginType {
			n++
		}
	}
	return n
}

// Last reports whether nsqueue runs after all other plugins.
func (c *Chain) Last() bool {
	return len(c.Plugins) > 1 && slices.Index(c.Plugins, pluginType) == len(c.Plugins)-1
}
