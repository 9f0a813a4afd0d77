// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
)

// state is what /proc/net/nsqueue says of a netns.
type state struct {
	version  int
	values   map[string]string
	counters hook.Counters
}

func known(version int) bool { return version >= firstInterface && version <= settleInterface }

// parse reads "key: value" lines. Keys that it does not know are kept: a newer
// module of the same interface version may have more.
func parse(text []byte) (state, error) {
	s := state{values: make(map[string]string)}
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if !ok {
			return state{}, fmt.Errorf("module state: line %.80q is no \"key: value\"", line)
		}
		s.values[key] = value
	}
	version, err := strconv.Atoi(s.values["interface"])
	if err != nil {
		return state{}, fmt.Errorf("module state: interface version %.20q", s.values["interface"])
	}
	s.version = version
	if !known(s.version) {
		return s, nil // its caller refuses it; the rest may mean anything
	}
	counters := map[string]*uint64{"queued": &s.counters.Queued, "exempt": &s.counters.Exempt}
	if s.version >= settleInterface {
		counters["settled"] = &s.counters.Settled
	}
	for key, into := range counters {
		if *into, err = strconv.ParseUint(s.values[key], 10, 64); err != nil {
			return state{}, fmt.Errorf("module state: counter %s: %w", key, err)
		}
	}
	return s, nil
}
