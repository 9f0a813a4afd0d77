// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const rulesDir = "daemon/rules/internal"

// kind is how a limit is written.
type kind int

const (
	plain kind = iota
	size
	duration
)

// limit is a constant of the source.
type limit struct {
	dir, constant string
	kind          kind
	of, beyond    string
}

func limits() []limit {
	const gives = "`app.error` is "
	return []limit{
		{
			"judge", "toServerLimit", size,
			"of what a client says, until it is decided", gives + "`limit`",
		},
		{"judge", "toClientLimit", size, "of what a server says, for DNS only", gives + "`limit`"},
		{"proto/http", "MaxHead", size, "of the head of an HTTP request", gives + "`limit`"},
		{"proto/dns", "MaxQuestions", plain, "questions of a DNS message", gives + "`malformed`"},
		{"judge", "quicDatagrams", plain, "datagrams for the hello of QUIC", gives + "`limit`"},
		{"judge", "quicPatience", duration, "for the rest of a hello of QUIC", gives + "`limit`"},
		{
			"stream", "maxSpans", plain, "segments of a connection out of their order",
			"the segment is dropped",
		},
		{"judge", "DefaultTimeout", duration, "undecided, for a flow", gives + "`timeout`"},
		{
			"rules", "holdLeak", size,
			"of a message whose client makes pauses, with `undecided: Hold`",
			"it is dropped, and sent again after the decision",
		},
		{
			"judge", "DefaultFlows", plain, "flows of a pod that are remembered",
			"the one without a packet for longest is forgotten",
		},
		{
			"judge", "DefaultMemory", size, "of a pod's undecided flows",
			"the oldest one is decided: " + gives + "`memory`",
		},
		{
			"names", "MinTTL", duration, "that a DNS answer counts at least, for `server.names`",
			"–",
		},
		{"names", "MaxTTL", duration, "that it counts at most", "the pod has to ask again"},
		{"proto/dns", "MaxAddrs", plain, "addresses of an answer that count", "the rest does not"},
		{"proto/dns", "MaxNames", plain, "names of a chain of CNAMEs that count", "the same"},
		{
			"eve", "Rate", plain, "events a second of a pod and rule",
			"they are counted (`suppressed`)",
		},
		{"eve", "Burst", plain, "events of a pod and rule at once", "the same"},
	}
}

// rulesLimits returns the limits, which are constants of the source.
func rulesLimits() (string, error) {
	rows := [][]string{{"limit", "of what", "beyond it"}}
	for _, l := range limits() {
		value, err := constant(sourceOf(l.dir), l.constant)
		if err != nil {
			return "", err
		}
		rows = append(rows, []string{l.kind.write(value), l.of, l.beyond})
	}
	return table(rows), nil
}

// sourceOf returns where a package of the rules is.
func sourceOf(name string) string {
	for _, dir := range []string{rulesDir, "daemon/internal", "daemon"} {
		if _, err := os.Stat(filepath.Join(root, dir, name)); err == nil {
			return filepath.Join(dir, name)
		}
	}
	return filepath.Join(rulesDir, name)
}

func (k kind) write(value int64) string {
	switch k {
	case size:
		if value >= 1<<20 {
			return fmt.Sprintf("%d MiB", value>>20)
		}
		return fmt.Sprintf("%d KiB", value>>10)
	case duration:
		text := time.Duration(value).String()
		text = strings.Replace(text, "m0s", "m", 1)
		return strings.Replace(text, "h0m", "h", 1)
	}
	return strconv.FormatInt(value, 10)
}

// rulesEvents returns the fields of events, which the source writes.
func rulesEvents() (string, error) {
	found, err := objectFields(sourceOf("eve"))
	if err != nil {
		return "", err
	}
	rows := [][]string{{"object", "fields"}}
	for _, object := range ordered(found) {
		name := code(object)
		if object == "" {
			name = "the line"
		}
		if keys := found[object]; len(keys) > 0 {
			rows = append(rows, []string{name, code(strings.Join(keys, "` `"))})
		}
	}
	if len(rows) < 5 {
		return "", fmt.Errorf("events have too few fields: %v", rows)
	}
	return table(rows), nil
}
