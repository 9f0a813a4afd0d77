// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
)

// denyList refuses the names that all captures use but for those of controls.
const denyList = `
  sets: {blocked: {domains: [blocked.example, "*.blocked.example"]}}
  rules:
  - {name: tls, when: sets.blocked.contains(tls.sni), action: reject}
  - {name: dns, when: sets.blocked.contains(dns.name), action: reject}
  - {name: http, when: sets.blocked.contains(http.host), action: reject}
`

// allowList lets only pass what the controls say.
const allowList = `
  default: reject
  sets: {allowed: {domains: [allowed.example, "*.allowed.example"]}}
  rules:
  - {name: tls, when: 'app.protocol in ["tls", "quic"] && sets.allowed.contains(tls.sni)', action: accept}
  - {name: dns, when: app.protocol == "dns" && sets.allowed.contains(dns.name), action: accept}
  - {name: http, when: app.protocol == "http" && sets.allowed.contains(http.host), action: accept}
`

func rulesOf(tb testing.TB, spec string) *compile.List {
	tb.Helper()
	text := "apiVersion: nsqueue.io/v1alpha1\nkind: RuleSet\nmetadata: {name: s}\nspec:" + spec
	program, err := compile.Compile([]compile.File{{Name: "s.yaml", Data: []byte(text)}}, compile.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return program.Fold(new(compile.Pod))
}

// notes writes down what a pod tells.
type notes struct{ list []string }

func (n *notes) Note(note *Note) {
	text := [...]string{"", "effect ", "conflict ", "subflow "}[note.Kind]
	if note.Kind == Effect {
		text += note.Action.String() + " "
		if note.Audit {
			text += "audit "
		}
	} else {
		text += note.Verdict.String() + " "
	}
	f := note.Flow
	name := f.TLSServerName + f.DNSName + f.HTTPHost
	n.list = append(n.list, strings.TrimSpace(strings.Join(strings.Fields(fmt.Sprint(
		text, note.Name(), " ", f.AppProtocol, " ", name, " ", f.AppError)), " ")))
}

// take returns what was told since the last call.
func (n *notes) take() string {
	defer func() { n.list = nil }()
	return strings.Join(n.list, "; ")
}

// bench is a pod whose packets come one by one.
type bench struct {
	*Pod
	tb    testing.TB
	notes notes
	now   time.Duration
	podIP netip.Addr
	user  int64 // whose the pod's sockets are
}

func newBench(tb testing.TB, spec string) *bench {
	b := &bench{tb: tb, podIP: netip.MustParseAddr("10.0.0.1"), now: time.Hour, user: -1}
	b.Pod = New(Config{Rules: rulesOf(tb, spec), Observer: &b.notes})
	tb.Cleanup(func() {
		b.Close()
		if used := b.account.Used(); used != 0 {
			tb.Errorf("%d bytes are still taken", used)
		}
	})
	return b
}

// send lets the pod judge a packet.
func (b *bench) send(packet []byte) Outcome {
	b.now += time.Millisecond
	p := Packet{Payload: packet, Length: len(packet), Direction: inspect.In, SocketUID: -1}
	if f, ok := (&inspect.Packet{Payload: packet}).Flow(); ok && f.Source == b.podIP {
		p.Direction, p.SocketUID = inspect.Out, b.user
	}
	return b.Judge(&p, b.now)
}

// readCapture returns the IP packets of a capture of Ethernet.
func readCapture(tb testing.TB, name string) (packets [][]byte) {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	for data = data[24:]; len(data) > 0; {
		n := binary.LittleEndian.Uint32(data[8:])
		packets = append(packets, data[16+14:16+n])
		data = data[16+n:]
	}
	return packets
}

// Each blocked name is refused under a deny list and under an allow list, with the packet
// that completes it. The captures are of pods 10.0.0.1, and whoever replayed them sent
// packets that a refused client would not.
func TestCaptures(t *testing.T) {
	for name, refusedAt := range map[string]int{
		"dns01_udp": 0, "dns02_case": 0, "dns03_tcp": 3, "dns06_compressed_question": 0,
		"http01_plain": 3, "http02_split_in_host": 5, "http03_second_pipelined": 3,
		"http07_port_8080": 3,
		"quic01_plain":     0, "quic02_pq_2datagrams": 1, "quic04_v2": 0,
		"tls01_plain": 3, "tls02_pq_2segments": 5, "tls03_split_in_name": 5, "tls06_records_100": 3,
		"tls09_tfo_in_syn": 0, "tls12_upper_case": 3, "tls13_port_8443": 3,
		"zz_control_dns": -1, "zz_control_http": -1, "zz_control_tls": -1,
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, b *bench) { b.play(name+".pcap", refusedAt) })
		})
	}
}

// play judges a capture, of which all packets from one on are refused, or none is.
func (b *bench) play(name string, refusedAt int) {
	b.tb.Helper()
	for i, packet := range readCapture(b.tb, name) {
		o := b.send(packet)
		if refused := refusedAt >= 0 && i >= refusedAt; refused != (o.Action == Reject) {
			b.tb.Errorf("packet %d: %+v", i, o)
		}
	}
	told := b.notes.take()
	if strings.Contains(told, "blocked.example") != (refusedAt >= 0) {
		b.tb.Errorf("told %s", told)
	}
}

// What a pod's judge has not seen the start of is as its sets say.
func TestCaptureMidstream(t *testing.T) {
	newBench(t, "\n  midstream: judge"+allowList).answers(t, "tls14_midstream.pcap", "reject")
	newBench(t, denyList).answers(t, "tls14_midstream.pcap", "accept")
}

// Fragments come only where nobody puts them together: rules on addresses decide.
func TestCaptureFragments(t *testing.T) {
	newBench(t, allowList).answers(t, "tls08_ip_fragments.pcap", "pass pass pass reject")
}

// answers judges a capture whose last packets all have the last of these answers.
func (b *bench) answers(t *testing.T, name, want string) {
	t.Helper()
	all := strings.Fields(want)
	for i, packet := range readCapture(t, name) {
		if got := b.send(packet).Action.String(); got != all[min(i, len(all)-1)] {
			t.Errorf("packet %d of %s: %s", i, name, got)
		}
	}
}

// Packets of a decided flow get the answer of the one before, until anything changes it.
func TestRepeats(t *testing.T) {
	b := newBench(t, "\n  rules: [{name: r, when: server.port == 9000, action: drop}]")
	pod, peer := netipPort("10.0.0.1", 4000), netipPort("203.0.113.5", 9000)
	packet := udp(pod, peer, []byte("x"))
	isRepeat := func() bool {
		p := Packet{Payload: packet, Length: len(packet), Direction: inspect.Out, SocketUID: -1}
		return b.repeatOf(&p, readHeader(&p)) != nil
	}
	repeats := func(want bool) {
		t.Helper()
		if o := b.send(packet); o.Action != Drop {
			t.Errorf("%+v", o)
		}
		if got := isRepeat(); got != want {
			t.Errorf("the next packet is a repeat: %v", got)
		}
	}
	other := func() { b.send(udp(netipPort("10.0.0.1", 4001), peer, nil)) }
	repeats(false)
	for name, change := range map[string]func(){
		"its end":     func() { b.table.Remove(b.table.Next(0)) },
		"time":        func() { b.Tick(b.now) },
		"equal rules": func() { b.Renew(rulesOf(t, "\n  rules: [{name: r, when: server.port == 9000, action: drop}]")) },
		"an echo":     func() { b.send(icmp(pod.Addr(), peer.Addr(), 8, 0, make([]byte, 8))) },
		"other rules": func() { b.SetRules(rulesOf(t, "\n  rules: [{name: s, when: server.port == 9000, action: drop}]")) },
	} {
		repeats(true)
		other()
		repeats(true)
		change()
		if isRepeat() {
			t.Errorf("%s: the next packet is a repeat", name)
		}
		if name == "other rules" || name == "its end" {
			repeats(false)
		}
	}
}
