// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// flowSeed keeps pods from choosing the numbers of their flows.
var flowSeed = maphash.MakeSeed() //nolint:gochecknoglobals // one for the process

// flowNumber returns the same number for all packets of a flow, both ways, and never 0.
func flowNumber(f *inspect.Flow) uint64 {
	var key [37]byte
	a, b := f.Source.As16(), f.Destination.As16()
	if c := f.Source.Compare(f.Destination); c > 0 ||
		c == 0 && f.SourcePort > f.DestinationPort {
		a, b = b, a
		f.SourcePort, f.DestinationPort = f.DestinationPort, f.SourcePort
	}
	copy(key[:], a[:])
	copy(key[16:], b[:])
	binary.LittleEndian.PutUint16(key[32:], f.SourcePort)
	binary.LittleEndian.PutUint16(key[34:], f.DestinationPort)
	key[36] = f.Protocol
	return maphash.Bytes(flowSeed, key[:]) | 1
}
