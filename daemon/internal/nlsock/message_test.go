// SPDX-License-Identifier: Apache-2.0

package nlsock_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/nlsock"
)

// split returns the messages of b, with copied bodies, and the error of the last.
func split(b []byte) (all []nlsock.Message, last error) {
	for m, err := range nlsock.Messages(b) {
		if err != nil {
			return all, err
		}
		m.Body = bytes.Clone(m.Body)
		all = append(all, m)
	}
	return all, nil
}

func TestMessages(t *testing.T) {
	want := []nlsock.Message{
		{Header: nlsock.Header{Type: 1, Flags: 2, Sequence: 3}, Body: []byte{}},
		{Header: nlsock.Header{Type: 0xffff, Flags: 0xfffe, Sequence: 1 << 31}, Body: []byte("abcde")},
		{Header: nlsock.Header{Type: 4}, Body: []byte("abcd")},
	}
	var b []byte
	for _, m := range want {
		b = m.Append(b, m.Body)
	}
	if len(b) != 3*16+8+4 {
		t.Errorf("%d bytes, want padded messages of 60", len(b))
	}
	got, err := split(b)
	if err != nil || !slices.EqualFunc(got, want, equal) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	// The last one may be without its padding, as the kernel's are.
	if got, err := split(b[:16+16+5]); len(got) != 2 || err != nil {
		t.Errorf("%+v, %v, want two messages", got, err)
	}
}

func equal(a, b nlsock.Message) bool {
	return a.Header == b.Header && bytes.Equal(a.Body, b.Body)
}

func TestMalformedMessages(t *testing.T) {
	good := nlsock.Header{Type: 1}.Append(nil, []byte("abcd"))
	long := binary.NativeEndian.AppendUint32(nil, 21)
	short := binary.NativeEndian.AppendUint32(nil, 15)
	for name, bad := range map[string][]byte{
		"shorter than a header": good[:15],
		"cut off":               good[:19],
		"too long":              append(long, good[4:]...),
		"too short":             append(short, good[4:]...),
	} {
		got, err := split(slices.Concat(good, bad))
		if err == nil || len(got) != 1 {
			t.Errorf("%s: %d messages, error %v, want 1 and an error", name, len(got), err)
		}
	}
}

func TestErrno(t *testing.T) {
	body := func(code int32) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(code)) }
	if err := nlsock.Errno(body(0)); err != nil {
		t.Errorf("an acknowledgement is %v", err)
	}
	err := nlsock.Errno(append(body(-int32(unix.EPERM)), "the request"...))
	if !errors.Is(err, unix.EPERM) {
		t.Errorf("%v, want %v", err, unix.EPERM)
	}
	if err := nlsock.Errno([]byte{1, 2, 3}); err == nil {
		t.Error("no error for three bytes")
	}
}

func FuzzMessages(f *testing.F) {
	f.Add(nlsock.Header{Type: 1}.Append(nil, []byte("abcde")))
	f.Add(nlsock.Header{Type: unix.NLMSG_ERROR}.Append(nil, []byte{1, 2, 3}))
	f.Add([]byte{16, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		for m, err := range nlsock.Messages(b) {
			if err != nil {
				if len(m.Body) > 0 {
					t.Errorf("a body of %d bytes with error %v", len(m.Body), err)
				}
				continue
			}
			total += unix.SizeofNlMsghdr + len(m.Body)
			_ = nlsock.Errno(m.Body)
		}
		if total > len(b) {
			t.Errorf("%d bytes of messages in %d", total, len(b))
		}
	})
}
