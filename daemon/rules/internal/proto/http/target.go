// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bytes"
	"net/netip"
)

const (
	maxHost  = 253
	maxLabel = 63
	maxIP    = 45 // the longest text of an IPv6 address
	noPort   = -1
)

// fillTarget says which host and which resource a request is for.
func (h *head) fillTarget(r *Request) bool {
	if !h.hasHost && !h.isOld() {
		return false
	}
	host, port, ok := parseAuthority(r.host[:0], h.host)
	if !ok {
		return false
	}
	r.Host, r.Path, r.Query = host, nil, nil
	switch {
	case h.connect:
		return h.authority(r, port)
	case h.target[0] == '/':
		r.Path, r.Query, _ = bytes.Cut(h.target, []byte{'?'})
		return true
	case h.target[0] == '*':
		r.Path = h.target
		return len(h.target) == 1 && string(h.method) == "OPTIONS"
	}
	return h.absolute(r, port)
}

// authority is the target of a CONNECT. Some clients leave out the port in Host.
func (h *head) authority(r *Request, port int) bool {
	var storage [maxHost]byte
	host, ours, ok := parseAuthority(storage[:0], h.target)
	if !ok || len(host) == 0 || ours == noPort {
		return false
	}
	if port == noPort {
		port = ours
	}
	return h.same(r, host, ours, port)
}

// absolute is a URI as target, such as for a proxy.
func (h *head) absolute(r *Request, port int) bool {
	var storage [maxHost]byte
	after := skip(h.target, isScheme)
	scheme := h.target[:len(h.target)-len(after)]
	if len(scheme) == 0 || !isAlpha(scheme[0]) || !bytes.HasPrefix(after, []byte("://")) {
		return false
	}
	rest := after[len("://"):]
	end := bytes.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	host, ours, ok := parseAuthority(storage[:0], rest[:end])
	if !ok || len(host) == 0 {
		return false
	}
	r.Path, r.Query, _ = bytes.Cut(rest[end:], []byte{'?'})
	if len(r.Path) == 0 {
		r.Path = after[1:2] // a slash
	}
	return h.same(r, host, orDefault(ours, scheme), orDefault(port, scheme))
}

// same takes the host of a target, which must be that of the Host field if there is
// one.
func (h *head) same(r *Request, host []byte, port, field int) bool {
	if !h.hasHost {
		r.Host = append(r.host[:0], host...)
		return true
	}
	return bytes.Equal(r.Host, host) && port == field
}

func orDefault(port int, scheme []byte) int {
	switch {
	case port != noPort:
		return port
	case fold(scheme, "http"):
		return 80
	case fold(scheme, "https"):
		return 443
	}
	return noPort
}

// parseAuthority appends the host of "host:port" to dst, as Request.Host has it.
func parseAuthority(dst, b []byte) (host []byte, port int, ok bool) {
	if len(b) > 0 && b[0] == '[' {
		return parseLiteral(dst, b)
	}
	rest := skip(b, isHost)
	name := b[:len(b)-len(rest)]
	if len(name) > 1 && name[len(name)-1] == '.' {
		name = name[:len(name)-1]
	}
	port, ok = parsePort(rest)
	if !ok || !isName(name) || len(name) == 0 && port != noPort {
		return nil, noPort, false
	}
	for _, c := range name {
		if isAlpha(c) {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst, port, true
}

// parseLiteral is parseAuthority for an IPv6 address in brackets.
func parseLiteral(dst, b []byte) (host []byte, port int, ok bool) {
	end := bytes.IndexByte(b, ']')
	if end < 0 || end > 1+maxIP {
		return nil, noPort, false
	}
	addr, err := netip.ParseAddr(string(b[1:end]))
	if err != nil || !addr.Is6() || addr.Zone() != "" {
		return nil, noPort, false
	}
	port, ok = parsePort(b[end+1:])
	return addr.AppendTo(dst), port, ok
}

// isName reports whether the labels of a name are as long as DNS has them. There may
// be none.
func isName(name []byte) bool {
	if len(name) == 0 {
		return true
	}
	if len(name) > maxHost {
		return false
	}
	for more := true; more; {
		var label []byte
		label, name, more = bytes.Cut(name, []byte{'.'})
		if len(label) == 0 || len(label) > maxLabel {
			return false
		}
	}
	return true
}

// parsePort reads ":port". There may be none, and it may have no digits.
func parsePort(b []byte) (port int, ok bool) {
	const most = 65535
	if len(b) == 0 {
		return noPort, true
	}
	if b[0] != ':' || !all(b[1:], isDigit) {
		return noPort, false
	}
	if len(b) == 1 {
		return noPort, true
	}
	for _, c := range b[1:] {
		if port = port*10 + int(c-'0'); port > most {
			return noPort, false
		}
	}
	return port, true
}
