// SPDX-License-Identifier: Apache-2.0

// Command marker is an inspector on a socket that accepts all packets, and marks them so
// that a rule in the pod can tell which were inspected.
package main

import (
	"encoding/binary"
	"net"
	"os"
	"time"

	"github.com/nsqueue/nsqueue/test/damage/load"
)

const hello, batch, verdicts, accept = 1, 5, 6, 1

func main() {
	for ; ; <-time.After(10 * time.Millisecond) {
		serve(os.Args[1])
	}
}

func serve(path string) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return
	}
	defer c.Close()
	h := make([]byte, 32)
	copy(h, []byte{hello, 0, 0, 0, 32, 0, 0, 0, 'n', 's', 'q', 'I', 1})
	_, err = c.Write(h)
	for m := make([]byte, 128<<10); err == nil; _, err = c.Read(m) {
		if binary.LittleEndian.Uint16(m) == batch {
			_, _ = c.Write(answer(m))
		}
		clear(m[:2])
	}
}

// answer returns the verdicts about a batch.
func answer(m []byte) []byte {
	le, count := binary.LittleEndian, int(binary.LittleEndian.Uint16(m[12:]))
	v := make([]byte, 16+16*count)
	le.PutUint16(v, verdicts)
	le.PutUint32(v[4:], uint32(len(v)))
	copy(v[8:14], m[8:14])
	for i := range count {
		one := v[16+16*i:]
		copy(one, m[24+64*i:][:4])
		one[4] = accept
		le.PutUint32(one[8:], load.Mark)
		le.PutUint32(one[12:], load.Mark)
	}
	return v
}
