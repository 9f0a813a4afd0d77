// SPDX-License-Identifier: Apache-2.0

// Package tls reads what a TLS client says first: it recognises a client by its
// first bytes, joins the records that carry a ClientHello, parses the ClientHello,
// and computes its JA4 fingerprint.
//
// The bytes come from a stream that somebody else has put in order. Over TCP the
// caller asks [Recognise], then a [Joiner], then [Hello.Parse]. Over QUIC there are
// no records, and the bytes of the CRYPTO frames go to [Hello.Parse] at once.
//
// A client may choose its bytes so that the server understands another name than
// the one that is found here. So the package is lenient where servers are: what
// some of them skip is skipped. What none of them takes is malformed.
//
// [MaxStream] is a budget of bytes of a flow, so the headers of records count as well.
// What follows from it: in records of 1 byte, a ClientHello of more than 2,730 bytes
// ends in [Limit], and its name stays unknown. Rules without the name, and then the
// default, decide about such a client.
//
// Nothing here allocates memory, keeps time or starts a goroutine. Results point
// into the input or into storage of the caller.
package tls
