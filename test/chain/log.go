// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"bytes"
	"strings"
	"sync"
)

// Log collects what a program writes. It is safe for concurrent use and its
// zero value is empty.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends to the log.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// String returns everything that was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Contains reports whether some text was written.
func (l *Log) Contains(text string) bool { return strings.Contains(l.String(), text) }

// Reset empties the log.
func (l *Log) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Reset()
}
