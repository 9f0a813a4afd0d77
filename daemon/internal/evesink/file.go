// SPDX-License-Identifier: Apache-2.0

package evesink

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// file appends to a file, by whole lines. It follows a file that was moved or deleted to
// the new one of the old name.
type file struct {
	path   string
	stream stream
	open   *os.File
	info   os.FileInfo // of the open file
}

func (f *file) ready(reopen bool) (usable bool, err error) {
	if f.open != nil && !reopen {
		if info, err := os.Lstat(f.path); err == nil && os.SameFile(info, f.info) {
			return true, nil
		}
	}
	opened, info, err := openFile(f.path)
	if err != nil {
		return f.named(), err
	}
	if f.open != nil {
		err = f.open.Close()
	}
	f.open, f.info, f.stream = opened, info, stream{w: opened}
	return true, err
}

// named reports whether the open file still has a name: what is written to it is not lost.
func (f *file) named() bool {
	if f.open == nil {
		return false
	}
	info, err := f.open.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink > 0
}

// openFile opens a regular file. It does not wait for a reader of what is none, and
// follows no link, which whoever may write to the directory could have made.
func openFile(path string) (*os.File, os.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|
		syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o640)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("open %s: no regular file", path)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

func (f *file) write(lines []byte) (int, error) { return f.stream.write(lines) }

func (f *file) close() error {
	if f.open == nil {
		return nil
	}
	return f.open.Close()
}

// stream writes to what the caller has opened.
type stream struct {
	w    io.Writer
	torn bool // the last line has no end
}

func (s *stream) ready(bool) (bool, error) { return true, nil }

// write ends a line that was torn by a failure before it writes others.
func (s *stream) write(lines []byte) (int, error) {
	if s.torn {
		if _, err := s.w.Write([]byte{'\n'}); err != nil {
			return 0, err
		}
		s.torn = false
	}
	n, err := s.w.Write(lines)
	s.torn = n > 0 && lines[n-1] != '\n'
	return n, err
}

func (s *stream) close() error { return nil }
