// SPDX-License-Identifier: Apache-2.0

// Package quic reads the start of QUIC connections, versions 1 (RFC 9000, 9001)
// and 2 (RFC 9369): it opens the client's Initial packets, whose keys everyone
// can derive, and joins their CRYPTO frames to the TLS ClientHello.
//
// A [State] is the memory of one flow. The states of one goroutine share an
// [Opener]. Nothing here starts goroutines, has a clock, or keeps or changes a
// datagram.
package quic
