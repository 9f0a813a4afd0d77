// SPDX-License-Identifier: Apache-2.0

package eve

import "strconv"

// What alert.gid and alert.rev are: rules have neither generators nor revisions.
const (
	generator = 1
	revision  = 1
)

func (l *line) alert(e *Event) {
	l.open("alert")
	if e.refused() {
		l.text("action", "blocked", maxWord)
	} else {
		l.text("action", "allowed", maxWord)
	}
	l.number("gid", generator)
	l.number("signature_id", uint64(SignatureID(e.Set, e.Rule)))
	l.number("rev", revision)
	l.key("signature")
	l.b = appendEscaped(append(l.b, '"'), e.Set, maxName)
	l.b = append(appendEscaped(append(l.b, '/'), e.Rule, maxName), '"')
	l.text("category", "", maxWord)
	l.number("severity", severity(e.Severity))
	l.metadata(e)
	l.end("alert")
}

// severity returns Suricata's number, of which 1 is the worst.
func severity(name string) uint64 {
	switch name {
	case "critical", "high":
		return 1
	case "low":
		return 3
	}
	return 2
}

// SignatureID returns the number of a rule, which only its names decide. It is neither 0
// nor above 31 bits.
func SignatureID(set, rule string) uint32 {
	const offset, prime = 2166136261, 16777619 // FNV-1a
	h := uint32(offset)
	for i := range len(set) {
		h = (h ^ uint32(set[i])) * prime
	}
	h = (h ^ '/') * prime
	for i := range len(rule) {
		h = (h ^ uint32(rule[i])) * prime
	}
	return max(1, h&(1<<31-1))
}

// metadata writes lists of texts: collectors know this form from Suricata's rules.
func (l *line) metadata(e *Event) {
	l.open("metadata")
	if e.Audit {
		l.list("mode", "Audit", maxWord)
	} else {
		l.list("mode", "Enforce", maxWord)
	}
	l.list("rule_action", e.Action.String(), maxWord)
	l.list("signature_severity", e.Severity, maxWord)
	l.list("message", e.Message, maxMessage)
	l.list("app_error", e.AppError, maxWord)
	if e.Midstream {
		l.list("midstream", "true", maxWord)
	}
	l.hidden(e)
	if e.Suppressed > 0 {
		l.key("suppressed")
		l.b = strconv.AppendUint(append(l.b, `["`...), e.Suppressed, 10)
		l.b = append(l.b, `"]`...)
	}
	l.end("metadata")
}

// hidden writes facts of a hello that have no other place.
func (l *line) hidden(e *Event) {
	hello := e.AppProtocol == "tls" || e.AppProtocol == "quic"
	if hello && e.TLS.ECH {
		l.list("tls_ech", "true", maxWord)
	}
	if e.AppProtocol == "quic" {
		l.texts("quic_alpn", e.TLS.ALPN)
	}
}

// list writes a list of one text, unless it is empty.
func (l *line) list(name, value string, most int) {
	if value != "" {
		l.key(name)
		l.b = append(l.b, '[')
		l.quoted(value, most)
		l.b = append(l.b, ']')
	}
}

// texts writes a list of the first texts, unless there are none.
func (l *line) texts(name string, values []string) {
	if len(values) == 0 {
		return
	}
	l.key(name)
	l.b = append(l.b, '[')
	for _, value := range values[:min(len(values), maxALPN)] {
		l.comma()
		l.quoted(value, maxWord)
	}
	l.b = append(l.b, ']')
}

// flow writes the ends as the flow has them, whichever way its packet goes.
func (l *line) flow(e *Event) {
	l.open("flow")
	l.ends(e.Protocol, e.Client, e.Server)
	if e.refused() {
		l.text("action", "drop", maxWord)
	}
	l.end("flow")
}

func (l *line) facts(e *Event) {
	switch e.AppProtocol {
	case "tls":
		l.tls(&e.TLS)
	case "quic":
		l.quic(e)
	case "dns":
		l.dns(&e.DNS)
	case "http", "h2":
		l.http(&e.HTTP)
	}
}

func (l *line) tls(t *TLS) {
	l.open("tls")
	l.some("sni", t.SNI, maxName)
	l.numbered("version", "TLS ", t.Version)
	l.word("ja4", t.JA4)
	l.texts("client_alpns", t.ALPN)
	l.end("tls")
}

func (l *line) quic(e *Event) {
	l.open("quic")
	l.word("version", e.QUICVersion)
	l.some("sni", e.TLS.SNI, maxName)
	l.word("ja4", e.TLS.JA4)
	l.end("quic")
}

// numbered writes a version with the name of its protocol in front, unless the version is
// empty or a word of its own.
func (l *line) numbered(name, protocol, version string) {
	if version == "" {
		return
	}
	if version[0] < '0' || version[0] > '9' {
		protocol = ""
	}
	l.key(name)
	l.b = append(append(l.b, '"'), protocol...)
	l.b = append(appendEscaped(l.b, version, maxWord), '"')
}

// dns writes the third version of Suricata's form.
func (l *line) dns(d *DNS) {
	l.open("dns")
	l.number("version", 3)
	if d.Response {
		l.text("type", "response", maxWord)
		l.rcode(d.RCode)
	} else {
		l.text("type", "request", maxWord)
	}
	l.key("queries")
	l.b = append(l.b, `[{`...)
	l.text("rrname", d.Name, maxName)
	l.word("rrtype", d.Type)
	l.b = append(l.b, `}]`...)
	l.end("dns")
}

func (l *line) rcode(code int) {
	names := [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"}
	if code >= 0 && code < len(names) {
		l.text("rcode", names[code], maxWord)
		return
	}
	l.key("rcode")
	l.b = append(strconv.AppendInt(append(l.b, '"'), int64(code), 10), '"')
}

func (l *line) http(h *HTTP) {
	l.open("http")
	l.some("hostname", h.Host, maxName)
	if h.Path != "" || h.Query != "" {
		l.key("url")
		l.b = appendEscaped(append(l.b, '"'), h.Path, maxPath)
		if h.Query != "" {
			l.b = appendEscaped(append(l.b, '?'), h.Query, maxPath)
		}
		l.b = append(l.b, '"')
	}
	l.some("http_user_agent", h.UserAgent, maxName)
	l.word("http_method", h.Method)
	l.numbered("protocol", "HTTP/", h.Version)
	l.end("http")
}

func (l *line) verdict(e *Event) {
	l.open("verdict")
	switch {
	case e.refused():
		l.text("action", "drop", maxWord)
		if e.Action == Reject {
			l.reject(e)
		}
	case e.Action == Accept && !e.Audit:
		l.text("action", "pass", maxWord)
	default:
		l.text("action", "alert", maxWord)
	}
	l.end("verdict")
}

func (l *line) reject(e *Event) {
	if e.Target == Nobody || e.Target > Both {
		return
	}
	l.text("reject_target", [...]string{"", "to_client", "to_server", "both"}[e.Target], maxWord)
	if e.Protocol == protoTCP {
		l.list("reject", "tcp-reset", maxWord)
	} else {
		l.list("reject", "icmp-prohib", maxWord)
	}
}

func (l *line) pod(p *Pod) {
	l.open("kubernetes")
	l.some("namespace", p.Namespace, maxName)
	l.open("pod")
	l.some("name", p.Name, maxName)
	l.some("uid", p.UID, maxName)
	l.end("pod")
	l.end("kubernetes")
}
