// SPDX-License-Identifier: Apache-2.0

package eve

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func schema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	path := filepath.Join("..", "..", "..", "docs", "events-eve.schema.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("eve.json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("eve.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// validate checks a line against the schema, without its key kubernetes.
func validate(t testing.TB, s *jsonschema.Schema, line []byte) {
	t.Helper()
	if len(line) > MaxLine || bytes.Count(line, []byte{'\n'}) != 1 || line[len(line)-1] != '\n' {
		t.Fatalf("no line of at most %d bytes: %q", MaxLine, line)
	}
	if !utf8.Valid(line) {
		t.Fatalf("not UTF-8: %q", line)
	}
	for _, r := range string(line[:len(line)-1]) {
		if !unicode.IsPrint(r) {
			t.Fatalf("%U in %q", r, line)
		}
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
	if err != nil {
		t.Fatalf("%v: %q", err, line)
	}
	delete(value.(map[string]any), "kubernetes")
	if err := s.Validate(value); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
}

func example() Event {
	return Event{
		Time: time.Date(2026, 11, 29, 2, 14, 49, 123456789, time.UTC), FlowID: 1834455017337562,
		Client:   netip.MustParseAddrPort("10.244.1.17:45678"),
		Server:   netip.MustParseAddrPort("203.0.113.9:443"),
		Protocol: protoTCP, ToServer: true,
		Pod: Pod{Namespace: "agents", Name: "a1", UID: "4711"},
		Set: "agent-sandboxes", Rule: "default", Action: Reject, Target: Both,
		AppProtocol: "tls",
		TLS: TLS{
			SNI: "evil.example", Version: "1.3", JA4: "t13d1516h2_8daaf6152771_b186095e22b6",
			ALPN: []string{"h2", "http/1.1"},
		},
	}
}

func TestGolden(t *testing.T) {
	const want = `{"timestamp":"2026-11-29T02:14:49.123456+0000","flow_id":1834455017337562,` +
		`"event_type":"alert","direction":"to_server","src_ip":"10.244.1.17","src_port":45678,` +
		`"dest_ip":"203.0.113.9","dest_port":443,"proto":"TCP",` +
		`"community_id":"1:VfPXGEV3AhJeV6tShYmMKUrXCpU=","app_proto":"tls",` +
		`"alert":{"action":"blocked","gid":1,"signature_id":SID,"rev":1,` +
		`"signature":"agent-sandboxes/default","category":"","severity":2,` +
		`"metadata":{"mode":["Enforce"],"rule_action":["reject"]}},` +
		`"flow":{"src_ip":"10.244.1.17","src_port":45678,"dest_ip":"203.0.113.9",` +
		`"dest_port":443,"action":"drop"},` +
		`"tls":{"sni":"evil.example","version":"TLS 1.3",` +
		`"ja4":"t13d1516h2_8daaf6152771_b186095e22b6","client_alpns":["h2","http/1.1"]},` +
		`"verdict":{"action":"drop","reject_target":"both","reject":["tcp-reset"]},` +
		`"kubernetes":{"namespace":"agents","pod":{"name":"a1","uid":"4711"}}}` + "\n"
	e := example()
	got := string(Append([]byte("kept"), &e))
	if diff := cmp.Diff("kept"+strings.Replace(want, "SID", "1930115442", 1), got); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
}

// kinds has an event of each kind of line.
func kinds() map[string]func(e *Event) {
	return map[string]func(e *Event){
		"reject":   func(*Event) {},
		"nobody":   func(e *Event) { e.Target = Nobody },
		"drop":     func(e *Event) { e.Action = Drop },
		"accept":   func(e *Event) { e.Action = Accept },
		"log":      func(e *Event) { e.Action = Log },
		"audit":    func(e *Event) { e.Audit = true },
		"answer":   func(e *Event) { e.ToServer = false },
		"critical": func(e *Event) { e.Severity = "critical"; e.Message = "pod 'a1' asked" },
		"low":      func(e *Event) { e.Severity = "low"; e.Suppressed = 12 },
		"nothing":  func(e *Event) { *e = Event{} },
		"conflict": func(e *Event) { e.AppError = "conflict"; e.Midstream = true },
		"ech":      func(e *Event) { e.TLS.ECH = true },
		"quic": func(e *Event) {
			e.AppProtocol, e.QUICVersion, e.Protocol, e.Target = "quic", "1", protoUDP, ToClient
		},
		"dns": func(e *Event) {
			e.AppProtocol, e.Protocol, e.DNS = "dns", protoUDP, DNS{Name: "x.example", Type: "HTTPS"}
		},
		"dns answer": func(e *Event) {
			e.AppProtocol, e.DNS = "dns", DNS{Name: "", Type: "A", Response: true, RCode: 3}
		},
		"dns rcode": func(e *Event) { e.AppProtocol, e.DNS = "dns", DNS{Response: true, RCode: 23} },
		"http": func(e *Event) {
			e.AppProtocol = "http"
			e.HTTP = HTTP{"GET", "x.example", "/a", "b=c", "1.1", "curl/8"}
		},
		"h2":      func(e *Event) { e.AppProtocol = "h2" },
		"unknown": func(e *Event) { e.AppProtocol = "unknown" },
		"none":    func(e *Event) { e.AppProtocol = "none" },
		"ICMP":    func(e *Event) { e.Protocol, e.ICMPType, e.AppProtocol = protoICMP, 8, "none" },
		"ICMPv6": func(e *Event) {
			e.Protocol, e.ICMPType = protoICMPv6, 128
			e.Client = netip.MustParseAddrPort("[fe80::1%eth0]:0")
			e.Server = netip.MustParseAddrPort("[fe80::2%eth0]:0")
		},
		"SCTP":        func(e *Event) { e.Protocol = protoSCTP },
		"GRE":         func(e *Event) { e.Protocol = 47 },
		"big flow ID": func(e *Event) { e.FlowID = 1<<64 - 1 },
		"far future":  func(e *Event) { e.Time = time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC) },
		"mapped":      func(e *Event) { e.Server = netip.MustParseAddrPort("[::ffff:192.0.2.1]:1") },
	}
}

func TestSchema(t *testing.T) {
	s := schema(t)
	for name, change := range kinds() {
		t.Run(name, func(t *testing.T) {
			e := example()
			change(&e)
			validate(t, s, Append(nil, &e))
		})
	}
	e := example()
	wrong := bytes.Replace(Append(nil, &e), []byte(`"rev":1`), []byte(`"rev":1,"x":1`), 1)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(wrong))
	if err != nil || s.Validate(value) == nil {
		t.Errorf("a key that the schema does not have is valid: %v", err)
	}
}

// What a rule has done decides the fields that tell of it.
func TestActions(t *testing.T) {
	for kind, want := range map[string]string{
		"reject": "blocked drop drop both", "nobody": "blocked drop drop ", "drop": "blocked drop drop ",
		"accept": "allowed pass  ", "log": "allowed alert  ", "audit": "allowed alert  ",
		"quic": "blocked drop drop to_client",
	} {
		e := example()
		kinds()[kind](&e)
		var line struct {
			Alert, Flow struct{ Action string }
			Verdict     struct {
				Action string
				Target string `json:"reject_target"`
			}
		}
		if err := json.Unmarshal(Append(nil, &e), &line); err != nil {
			t.Fatal(err)
		}
		got := strings.Join([]string{
			line.Alert.Action, line.Verdict.Action, line.Flow.Action, line.Verdict.Target,
		}, " ")
		if got != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
}

// Names come from pods: none breaks a line, and none is longer than a name.
func TestHostileNames(t *testing.T) {
	s := schema(t)
	for name, want := range map[string]string{
		"a\r\n{\"b\":1}":               "a\r\n{\"b\":1}",
		"a\x00\x1b[2J\x7f":             "a\x00\x1b[2J\x7f",
		"quote\"back\\slash":           "quote\"back\\slash",
		"\xff\xfea":                    "\ufffd\ufffda",
		"\xed\xa0\x80":                 "\ufffd\ufffd\ufffd",
		"\u202e\u2028\u0085\U000e0001": "\u202e\u2028\u0085\U000e0001",
		"zoë 日本 😀":                     "zoë 日本 😀",
		strings.Repeat("a", 64<<10):    strings.Repeat("a", maxName) + "…",
		strings.Repeat("ë", 64<<10):    strings.Repeat("ë", maxName/2) + "…",
		strings.Repeat("\x00", 255):    strings.Repeat("\x00", 255),
		strings.Repeat("\x80", 256):    strings.Repeat("\ufffd", 255) + "…",
	} {
		e := example()
		e.TLS.SNI = name
		line := Append(nil, &e)
		validate(t, s, line)
		var got struct{ TLS struct{ SNI string } }
		if err := json.Unmarshal(line, &got); err != nil || got.TLS.SNI != want {
			t.Errorf("%.40q: %q, %v", name, got.TLS.SNI, err)
		}
	}
}

func TestSignatureID(t *testing.T) {
	// FNV-1a of a/b is 0x3a8e75c1, as an independent program says.
	if id := SignatureID("a", "b"); id != 0x3a8e75c1 {
		t.Errorf("%#x", id)
	}
	if SignatureID("a", "b") == SignatureID("b", "a") {
		t.Error("two rules have one number")
	}
}

func TestCommunityID(t *testing.T) {
	for _, test := range []struct {
		client, server     string
		protocol           uint8
		icmpType, icmpCode uint8
		want               string
	}{
		{"1.2.3.4:4584", "43.3.132.3:3483", 6, 0, 0, "1:koNcqhFRD5kb254ZrLsdv630jCM="},
		{"10.244.1.17:45678", "203.0.113.9:443", 6, 0, 0, "1:VfPXGEV3AhJeV6tShYmMKUrXCpU="},
		{"203.0.113.9:443", "10.244.1.17:45678", 6, 0, 0, "1:VfPXGEV3AhJeV6tShYmMKUrXCpU="},
		{"[::ffff:203.0.113.9]:53", "10.244.1.17:40000", 17, 0, 0, "1:GALDmmPkUdp/ndRdcQZXPlZSM/U="},
		{"[fd00::2]:40000", "[fd00::1]:443", 6, 0, 0, "1:zwkWxXb5bihY/1Xf49A/GI2T+0A="},
		{"10.0.0.1:90", "10.0.0.1:80", 6, 0, 0, "1:QV0P0fmx0iwyMO2/fPgxnCYVqhY="},
		{"10.0.0.1:0", "10.0.0.2:0", 1, 8, 0, "1:YcMyyWJfhc95EW1GfXt6jlZ3DiQ="},
		{"10.0.0.2:0", "10.0.0.1:0", 1, 0, 0, "1:YcMyyWJfhc95EW1GfXt6jlZ3DiQ="},
		{"10.0.0.2:0", "10.0.0.1:0", 1, 3, 1, "1:JHjlyD5IJJjl3wHWOMj46lLWZag="},
		{"[fd00::2]:0", "[fd00::1]:0", 58, 135, 0, "1:0j5oEUHMdnnN8ale3lx2FJ1j3d0="},
		{"[fd00::1]:0", "[fd00::2]:0", 58, 1, 4, "1:GeFx7YCDqMnIP2bj+4M9zBbyDxo="},
		{"10.0.0.2:1", "10.0.0.1:2", 132, 0, 0, "1:r9ZYRffP2zS2y7+VoQSrNO2C13k="},
		{"10.0.0.2:0", "10.0.0.1:0", 47, 0, 0, "1:+KlEHDT0vJgzs/eNmzHq0aSpRYw="},
	} {
		e := Event{
			Client: netip.MustParseAddrPort(test.client), Server: netip.MustParseAddrPort(test.server),
			Protocol: test.protocol, ICMPType: test.icmpType, ICMPCode: test.icmpCode,
		}
		if got := string(AppendCommunityID(nil, &e)); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
}

func TestAllocations(t *testing.T) {
	e := example()
	b := make([]byte, 0, MaxLine)
	if n := testing.AllocsPerRun(100, func() { b = Append(b[:0], &e) }); n != 0 {
		t.Errorf("%v allocations a line", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	e := example()
	buf := make([]byte, 0, MaxLine)
	b.ReportAllocs()
	for b.Loop() {
		buf = Append(buf[:0], &e)
	}
	b.SetBytes(int64(len(buf)))
}

// Whatever flows and rules are called, there is one line that is valid.
func FuzzAppend(f *testing.F) {
	s := schema(f)
	f.Add("x.example", "tls", "critical", uint8(2), uint8(6), uint64(1), int64(0), []byte{10, 0, 0, 1})
	f.Add("\r\n\"\x00\xff", "dns", "", uint8(5), uint8(17), uint64(0), int64(1)<<62, []byte(nil))
	f.Add(strings.Repeat("\xf0\x9f\x98", 300), "http", "x", uint8(255), uint8(58), ^uint64(0), int64(-1)<<62, make([]byte, 16))
	f.Add("{", "quic", "[", uint8(3), uint8(1), uint64(7), int64(9), []byte{1})
	f.Fuzz(func(t *testing.T, text, app, word string, flags, protocol uint8, n uint64, at int64, ip []byte) {
		a, _ := netip.AddrFromSlice(ip)
		if flags&8 != 0 {
			a = a.WithZone(text)
		}
		e := Event{
			Time: time.Unix(at, int64(n)), FlowID: n, Client: netip.AddrPortFrom(a, uint16(n)),
			Server: netip.AddrPortFrom(a, uint16(at)), Protocol: protocol,
			ICMPType: uint8(n), ICMPCode: uint8(at), ToServer: flags&16 != 0,
			Pod: Pod{text, word, app}, Set: text, Rule: word, Action: Action(flags),
			Audit: flags&32 != 0, Target: Target(flags >> 4), Severity: word, Message: text,
			AppProtocol: app, AppError: word, Midstream: flags&64 != 0,
			TLS:         TLS{text, word, word, []string{text, word, "", text}, flags&128 != 0},
			QUICVersion: word, DNS: DNS{text, word, flags&64 != 0, int(at)},
			HTTP: HTTP{word, text, text, text, word, text}, Suppressed: n,
		}
		if e.Action > Log {
			e.Action %= Log + 1
		}
		validate(t, s, Append(nil, &e))
	})
}
