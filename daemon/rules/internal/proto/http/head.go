// SPDX-License-Identifier: Apache-2.0

package http

import "bytes"

// A head is what the lines of a request's head have said so far.
type head struct {
	method, target, version []byte
	host, agent             []byte
	length                  uint64
	hasHost, hasAgent       bool
	hasLength               bool
	hasCoding, chunked      bool
	upgrade, connect        bool
}

// line reads a line of the head.
func (h *head) line(line []byte) Status {
	ok := true
	switch {
	case h.method == nil && len(line) == 0:
		// Servers leave out empty lines before a request.
	case h.method == nil:
		ok = h.requestLine(line)
	case len(line) == 0:
		return Complete
	default:
		ok = h.field(line)
	}
	if !ok {
		return Malformed
	}
	return More
}

// requestLine takes the method, the target and the version apart.
func (h *head) requestLine(line []byte) bool {
	const version = "HTTP/1."
	first := bytes.IndexByte(line, ' ')
	last := bytes.LastIndexByte(line, ' ')
	if first <= 0 || last <= first+1 {
		return false
	}
	h.method, h.target = line[:first], line[first+1:last]
	proto := line[last+1:]
	if len(proto) != len(version)+1 || string(proto[:len(version)]) != version {
		return false
	}
	h.version = proto[len("HTTP/"):]
	h.connect = string(h.method) == "CONNECT"
	return all(h.method, isToken) && all(h.target, isTarget) && isDigit(proto[len(version)])
}

// isOld reports whether the client speaks HTTP/1.0.
func (h *head) isOld() bool { return string(h.version) == "1.0" }

// field reads a field. Of those that matter here, only Transfer-Encoding and
// Upgrade are lists, and may come twice.
func (h *head) field(line []byte) bool {
	name, value, ok := splitField(line)
	switch {
	case !ok:
		return false
	case fold(name, "host"):
		return once(&h.hasHost, &h.host, value)
	case fold(name, "user-agent"):
		return once(&h.hasAgent, &h.agent, value)
	case fold(name, "content-length"):
		ok = !h.hasLength
		h.hasLength = true
		return ok && h.contentLength(value)
	case fold(name, "transfer-encoding"):
		h.hasCoding = true
		return h.codings(value)
	case fold(name, "upgrade"):
		h.upgrade = true
	}
	return true
}

func once(has *bool, field *[]byte, value []byte) bool {
	again := *has
	*has, *field = true, value
	return !again
}

// splitField takes a field's line apart. A line that starts with a space would
// continue the one before it, which RFC 9112 has no more.
func splitField(line []byte) (name, value []byte, ok bool) {
	value = skip(line, isToken)
	name = line[:len(line)-len(value)]
	if len(name) == 0 || len(value) == 0 || value[0] != ':' {
		return nil, nil, false
	}
	value = trim(value[1:])
	return name, value, all(value, isValue)
}

func (h *head) contentLength(value []byte) bool {
	const maxDigits = 18
	for _, c := range value {
		h.length = h.length*10 + uint64(c-'0')
	}
	return len(value) > 0 && len(value) <= maxDigits && all(value, isDigit)
}

// codings reads a list of transfer codings, of which chunked must be the last. An
// empty one is not skipped: servers differ in what they make of it.
func (h *head) codings(value []byte) bool {
	for more := true; more; {
		var coding []byte
		coding, value, more = bytes.Cut(value, []byte{','})
		coding = trim(coding)
		if h.chunked || len(coding) == 0 || !all(coding, isToken) {
			return false
		}
		h.chunked = fold(coding, "chunked")
	}
	return true
}

// fill checks what the fields say together, and fills r.
func (h *head) fill(r *Request) bool {
	r.Method, r.Version, r.UserAgent = h.method, h.version, h.agent
	r.Upgrade = h.upgrade && !h.isOld()
	return h.framed() && h.fillTarget(r)
}

// framed reports whether it is certain where the request ends.
func (h *head) framed() bool {
	if h.hasCoding && (!h.chunked || h.hasLength || h.isOld()) {
		return false
	}
	return !h.connect || !h.hasCoding && h.length == 0
}
