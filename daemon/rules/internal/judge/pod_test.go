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
}

func newBench(tb testing.TB, spec string) *bench {
	b := &bench{tb: tb, podIP: netip.MustParseAddr("10.0.0.1"), now: time.Hour}
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
		p.Direction = inspect.Out
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

func TestCaptures(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.pcap")
	for _, file := range files {
		for kind, spec := range map[string]string{"deny": denyList, "allow": allowList} {
			t.Run(filepath.Base(file)+"/"+kind, func(t *testing.T) {
				b := newBench(t, spec)
				var outcomes []string
				for _, packet := range readCapture(t, filepath.Base(file)) {
					o := b.send(packet)
					text := o.Action.String()
					if o.Settle {
						text += "!"
					}
					outcomes = append(outcomes, text)
				}
				t.Log(outcomes, b.notes.take())
			})
		}
	}
}
