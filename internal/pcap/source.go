// SPDX-License-Identifier: Apache-2.0

package pcap

import (
	"errors"
	"fmt"
	"io"
)

// source counts what is read of a file.
type source struct {
	r      io.Reader
	offset int64
	start  int64 // of the record that is being read
	buf    []byte
}

// firstRead bounds the memory that a record gets before its bytes are there.
const firstRead = 64 << 10

// read returns the next bytes, valid until the next call. At the end of the file it
// returns io.EOF; a piece of what was asked for is an error.
func (s *source) read(n int) ([]byte, error) {
	s.buf = s.buf[:0]
	for len(s.buf) < n {
		step := min(n-len(s.buf), max(firstRead, len(s.buf)))
		have := len(s.buf)
		s.buf = append(s.buf, make([]byte, step)...)
		got, err := io.ReadFull(s.r, s.buf[have:])
		s.offset += int64(got)
		switch {
		case errors.Is(err, io.EOF) && have == 0:
			return nil, io.EOF
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil, s.errorf("the file ends after %d of %d bytes", have+got, n)
		case err != nil:
			return nil, &Error{s.offset, err}
		}
	}
	return s.buf, nil
}

// rest is read inside a record, where the end of the file is an error.
func (s *source) rest(n int) ([]byte, error) {
	b, err := s.read(n)
	if errors.Is(err, io.EOF) {
		return nil, s.errorf("the file ends inside a record")
	}
	return b, err
}

// errorf returns an error at the record that is being read.
func (s *source) errorf(format string, values ...any) error {
	return &Error{s.start, fmt.Errorf(format, values...)}
}
