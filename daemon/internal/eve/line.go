// SPDX-License-Identifier: Apache-2.0

package eve

import (
	"net/netip"
	"strconv"
	"time"
)

// MaxLine bounds the bytes of a line, whatever its event has.
const MaxLine = 64 << 10

// The most bytes of a text that a line has, before escapes.
const (
	maxName    = 255
	maxWord    = 64
	maxALPN    = 8 // protocols
	maxMessage = 1024
	maxPath    = 1024
)

// flowIDMask leaves the integers that a floating-point number has.
const flowIDMask = 1<<53 - 1

// Numbers of IP's protocols.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132
)

// line is a line that is being written.
type line struct{ b []byte }

// Append adds the line of an event, with its line feed.
func Append(b []byte, e *Event) []byte {
	l := line{append(b, '{')}
	l.head(e)
	l.alert(e)
	l.flow(e)
	l.facts(e)
	l.verdict(e)
	l.pod(&e.Pod)
	return append(l.b, '}', '\n')
}

func (l *line) head(e *Event) {
	l.key("timestamp")
	l.b = appendTime(append(l.b, '"'), e.Time)
	l.b = append(l.b, '"')
	if id := e.FlowID & flowIDMask; id != 0 {
		l.number("flow_id", id)
	}
	l.text("event_type", "alert", maxWord)
	source, destination := e.Client, e.Server
	if e.ToServer {
		l.text("direction", "to_server", maxWord)
	} else {
		l.text("direction", "to_client", maxWord)
		source, destination = destination, source
	}
	l.ends(e.Protocol, source, destination)
	l.protocol(e.Protocol)
	if e.Protocol == protoICMP || e.Protocol == protoICMPv6 {
		l.number("icmp_type", uint64(e.ICMPType))
		l.number("icmp_code", uint64(e.ICMPCode))
	}
	if e.Client.Addr().IsValid() && e.Server.Addr().IsValid() {
		l.key("community_id")
		l.b = append(l.b, '"')
		l.b = AppendCommunityID(l.b, e)
		l.b = append(l.b, '"')
	}
	l.word("app_proto", appProto(e.AppProtocol))
}

// appendTime writes a time as Suricata does. Years that its form does not have become
// year 1.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		t = time.Time{}
	}
	return t.AppendFormat(b, "2006-01-02T15:04:05.000000-0700")
}

func hasPorts(protocol uint8) bool {
	return protocol == protoTCP || protocol == protoUDP || protocol == protoSCTP
}

// ends writes the two ends of a packet or a flow.
func (l *line) ends(protocol uint8, source, destination netip.AddrPort) {
	l.address("src_ip", source.Addr())
	if hasPorts(protocol) {
		l.number("src_port", uint64(source.Port()))
	}
	l.address("dest_ip", destination.Addr())
	if hasPorts(protocol) {
		l.number("dest_port", uint64(destination.Port()))
	}
}

func (l *line) protocol(number uint8) {
	names := [...]struct {
		number uint8
		name   string
	}{
		{protoTCP, "TCP"},
		{protoUDP, "UDP"},
		{protoICMP, "ICMP"},
		{protoICMPv6, "IPv6-ICMP"},
		{protoSCTP, "SCTP"},
	}
	for _, known := range names {
		if known.number == number {
			l.text("proto", known.name, maxWord)
			return
		}
	}
	l.key("proto")
	l.b = append(strconv.AppendUint(append(l.b, '"'), uint64(number), 10), '"')
}

// appProto returns the name that Suricata has for an application's protocol.
func appProto(name string) string {
	switch name {
	case "none":
		return ""
	case "unknown":
		return "failed"
	case "h2":
		return "http2"
	}
	return name
}

// key begins a value.
func (l *line) key(name string) {
	l.comma()
	l.b = append(append(append(l.b, '"'), name...), `":`...)
}

func (l *line) comma() {
	if last := l.b[len(l.b)-1]; last != '{' && last != '[' {
		l.b = append(l.b, ',')
	}
}

func (l *line) open(name string) {
	l.key(name)
	l.b = append(l.b, '{')
}

// end ends an object; if it has nothing, it is as if it had never begun.
func (l *line) end(name string) {
	if l.b[len(l.b)-1] != '{' {
		l.b = append(l.b, '}')
		return
	}
	l.b = l.b[:len(l.b)-len(name)-len(`"":{`)]
	if l.b[len(l.b)-1] == ',' {
		l.b = l.b[:len(l.b)-1]
	}
}

func (l *line) number(name string, n uint64) {
	l.key(name)
	l.b = strconv.AppendUint(l.b, n, 10)
}

// text writes a text, also an empty one.
func (l *line) text(name, value string, most int) {
	l.key(name)
	l.quoted(value, most)
}

// word writes a text, unless it is empty.
func (l *line) word(name, value string) { l.some(name, value, maxWord) }

// some writes a text, unless it is empty.
func (l *line) some(name, value string, most int) {
	if value != "" {
		l.text(name, value, most)
	}
}

func (l *line) quoted(value string, most int) {
	l.b = append(appendEscaped(append(l.b, '"'), value, most), '"')
}

// address writes an address without its zone, which is text of the node.
func (l *line) address(name string, a netip.Addr) {
	if a.IsValid() {
		l.key(name)
		l.b = a.Unmap().WithZone("").AppendTo(append(l.b, '"'))
		l.b = append(l.b, '"')
	}
}
