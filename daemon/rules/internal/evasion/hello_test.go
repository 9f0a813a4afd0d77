// SPDX-License-Identifier: Apache-2.0

package evasion

import (
	"bytes"
	"encoding/binary"
	"slices"
)

func vec8(b ...byte) []byte { return append([]byte{byte(len(b))}, b...) }

func vec16(parts ...[]byte) []byte {
	b := slices.Concat(parts...)
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func extension(kind uint16, parts ...[]byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, kind), vec16(parts...)...)
}

// hostName is an entry of the list of server names, and serverName the extension.
func hostName(name string) []byte { return append([]byte{0}, vec16([]byte(name))...) }

func serverName(entries ...[]byte) []byte { return extension(0, vec16(entries...)) }

// keyShare is as long as post-quantum clients send it.
func keyShare() []byte {
	share := bytes.Repeat([]byte{7}, 1216)
	return extension(51, vec16([]byte{0x11, 0xec}, vec16(share)))
}

// ech is an encrypted hello, or what looks like one: an outer one, HKDF-SHA256 and
// AES-128-GCM.
func ech() []byte {
	return extension(0xfe0d, []byte{0, 0, 1, 0, 1, 42}, vec16(make([]byte, 32)), vec16(make([]byte, 160)))
}

// hello is a ClientHello of TLS 1.3 with these extensions behind those that all have.
func hello(extensions ...[]byte) []byte {
	b := []byte{3, 3}
	b = append(b, bytes.Repeat([]byte{5}, 32)...)          // random
	b = append(b, vec8(bytes.Repeat([]byte{6}, 32)...)...) // session
	b = append(b, vec16([]byte{0x13, 1, 0x13, 2})...)      // suites
	b = append(b, vec8(0)...)                              // compression
	all := slices.Concat(
		extension(43, vec8(3, 4)),
		extension(10, vec16([]byte{0x11, 0xec, 0, 29})),
		extension(16, vec16(vec8([]byte("h2")...))),
		slices.Concat(extensions...))
	b = append(b, vec16(all)...)
	return append([]byte{1, 0, byte(len(b) >> 8), byte(len(b))}, b...)
}

// helloOf is that of a client that names a server.
func helloOf(name string) []byte { return hello(serverName(hostName(name))) }

// records cuts a message into records of so many bytes.
func records(message []byte, size int) (b []byte) {
	for len(message) > 0 {
		n := min(size, len(message))
		b = append(append(b, 22, 3, 1, byte(n>>8), byte(n)), message[:n]...)
		message = message[n:]
	}
	return b
}

// record is a message in one record.
func record(message []byte) []byte { return records(message, 1<<14) }

// query is a message of DNS that asks for the addresses of names.
func query(id uint16, names ...string) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = append(b, 1, 0, 0, byte(len(names)), 0, 0, 0, 0, 0, 0)
	for _, name := range names {
		b = append(dnsName(b, name), 0, 1, 0, 1)
	}
	return b
}

func dnsName(b []byte, name string) []byte {
	for label := range bytes.SplitSeq([]byte(name), []byte(".")) {
		b = append(b, vec8(label...)...)
	}
	return append(b, 0)
}

// question sets the type of a query's only question.
func question(message []byte, kind byte) []byte {
	b := slices.Clone(message)
	b[len(b)-3] = kind
	return b
}

// answer makes the answer to a query out of resource records.
func answer(message []byte, list ...[]byte) []byte {
	b := slices.Clone(message)
	b[2] |= 0x80
	binary.BigEndian.PutUint16(b[6:], uint16(len(list)))
	return append(b, slices.Concat(list...)...)
}

// resource is a record of DNS: the name that is asked for has the name "".
func resource(name string, kind byte, ttl uint32, data []byte) []byte {
	b := []byte{0xc0, 12}
	if name != "" {
		b = dnsName(nil, name)
	}
	b = append(b, 0, kind, 0, 1)
	b = binary.BigEndian.AppendUint32(b, ttl)
	return append(b, vec16(data)...)
}

// address is the record of an address of the name that is asked for.
func address(a string) []byte { return resource("", 1, 60, addr(a).AsSlice()) }

// overTCP puts its length before a message of DNS.
func overTCP(message []byte) []byte { return vec16(message) }

// get is a request for a host.
func get(host string) []byte {
	return []byte("GET /a?b=c HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: t\r\n\r\n")
}
