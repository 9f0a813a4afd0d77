// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"encoding/binary"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/internal/pcap"
)

// ethernet is the longest packet that is surely one, and not several that were merged.
const ethernet = 1500

// checksum says whether the checksum of a packet is to be verified. The kernel has done so
// with what nsqueuectl captures, as far as it needs to be. Other captures have packets
// whose checksum a network card, or nobody, completes.
func checksum(p *pcap.Packet, d inspect.Direction) inspect.Checksum {
	_, _, ours := p.Interface.Pod()
	if ours || d != inspect.In || p.Length > ethernet || isPartial(p) {
		return inspect.ChecksumTrusted
	}
	return inspect.ChecksumUnverified
}

// isPartial reports whether the checksum of a packet has yet to be completed: it is then
// the sum of the pseudo header alone (RFC 9293, section 3.1).
func isPartial(p *pcap.Packet) bool {
	packet := inspect.Packet{Payload: p.IP, Length: p.Length}
	f, ok := packet.Flow()
	at := map[uint8]int{inspect.ProtoTCP: 16, inspect.ProtoUDP: 6}[f.Protocol]
	if !ok || f.Fragment || at == 0 || len(f.Transport) < at+2 {
		return false
	}
	sum := uint32(f.Protocol) + uint32(len(f.Transport))
	for _, addr := range [][]byte{f.Source.AsSlice(), f.Destination.AsSlice()} {
		for ; len(addr) > 1; addr = addr[2:] {
			sum += uint32(binary.BigEndian.Uint16(addr))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return binary.BigEndian.Uint16(f.Transport[at:]) == uint16(sum)
}
