// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// FuzzReader: whatever a runtime sends, messages lie within it, and are the same however
// it is cut into frames.
func FuzzReader(f *testing.F) {
	one := pod("1", "web")
	data := (&call{service: pluginService, method: runMethod, payload: runRequest(&one)}).encode()
	whole := frame(&message{stream: ofPlugin, call: 1, kind: request, data: data})
	f.Add(whole, uint8(3))
	f.Add(append(whole, whole...), uint8(20))
	f.Add(append([]byte{0, 0, 0, 9, 0, 0, 0, 1, 7}, whole...), uint8(1))
	f.Add(whole[:len(whole)-1], uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		r := newReader(bytes.NewReader(b))
		size := 0
		for {
			m, err := r.next()
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) &&
					!errors.Is(err, errMessage) {
					t.Error(err)
				}
				break
			}
			size += messageHeader + len(m.data)
			again(t, &m, int(cut))
			s := session{plugin: &Plugin{}}
			if c, err := parseCall(m.data); err == nil {
				_, _ = s.begin(&c)
			}
			_ = refusal(m.data)
		}
		if size > len(b) {
			t.Errorf("%d bytes of messages in %d", size, len(b))
		}
	})
}

// again reads a message in two frames.
func again(t *testing.T, m *message, cut int) {
	whole := frame(m)[frameHeader:]
	cut = min(cut, len(whole))
	var b []byte
	for _, part := range [][]byte{whole[:cut], whole[cut:]} {
		b = append(b, 0, 0, 0, byte(m.stream), 0, 0, byte(len(part)>>8), byte(len(part)))
		b = append(b, part...)
	}
	if len(whole) > 0xffff {
		return
	}
	got, err := newReader(bytes.NewReader(b)).next()
	if err != nil || got.call != m.call || got.kind != m.kind || !bytes.Equal(got.data, m.data) {
		t.Errorf("%+v, %v, want %+v", got, err, m)
	}
}
