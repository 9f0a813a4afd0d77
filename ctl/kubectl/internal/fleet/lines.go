// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"fmt"
	"io"
)

// maxLine is more than a line of a node has.
const maxLine = maxAnswer

// Lines returns a writer that calls a function with each line, without its end. The line is
// valid during the call. What has no end is no line.
func Lines(each func(line []byte) error) io.WriteCloser { return &lines{each: each} }

type lines struct {
	each func([]byte) error
	rest []byte // the beginning of a line
}

func (l *lines) Write(p []byte) (int, error) {
	written := len(p)
	for {
		line, more, found := bytes.Cut(p, []byte("\n"))
		if !found {
			break
		}
		if len(l.rest) > 0 {
			line = append(l.rest, line...)
			l.rest = l.rest[:0]
		}
		if err := l.each(line); err != nil {
			return 0, err
		}
		p = more
	}
	if len(l.rest)+len(p) > maxLine {
		return 0, fmt.Errorf("%w: a line has more than %d bytes", errTooLong, maxLine)
	}
	l.rest = append(l.rest, p...)
	return written, nil
}

// Close forgets what has no end: a node that is lost leaves it behind.
func (l *lines) Close() error { return nil }

// JSONLines is a [Sink] of lines that a function reads. Empty lines are left out.
func JSONLines[T any](read func(line []byte) (T, error)) Sink[T] {
	return func(emit func(T) error) io.WriteCloser {
		return Lines(func(line []byte) error {
			if len(bytes.TrimSpace(line)) == 0 {
				return nil
			}
			v, err := read(line)
			if err != nil {
				return err
			}
			return emit(v)
		})
	}
}
