// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// thousand is a set with 1,000 rules.
func thousand(tb testing.TB) *Rules { return mustCompile(tb, thousandRules()) }

func thousandRules() string {
	var b strings.Builder
	b.WriteString("  default: reject\n  rules:\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "  - {name: r%d, when: pod.namespace != 'x' && server.port == %d && tls.sni == 'n%d.example', action: accept}\n", i, 400+i%50, i)
	}
	return set("s", b.String())
}

// BenchmarkLoad compiles 1,000 rules: all, and after a program with one other rule.
func BenchmarkLoad(b *testing.B) {
	file := File{Name: "s.yaml", Data: []byte(thousandRules())}
	other := strings.Replace(thousandRules(), "n999.example", "other.example", 1)
	for name, before := range map[string]*Rules{
		"all": nil, "one other": mustCompile(b, other),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := new(Loader).Compile(before, file); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAttach(b *testing.B) {
	i := New(Options{Rules: thousand(b)})
	a := &inspect.Attachment{PodNamespace: "agents"}
	b.ReportAllocs()
	for b.Loop() {
		i.Attached(a)
		i.Detached(a)
	}
}

func BenchmarkReplace(b *testing.B) {
	i := New(Options{Rules: thousand(b)})
	for n := range 1000 {
		i.Attached(&inspect.Attachment{PodNamespace: "agents", PodName: fmt.Sprint(n)})
	}
	r := thousand(b)
	b.ReportAllocs()
	for b.Loop() {
		replace(b, i, r)
	}
}

func BenchmarkInspectBatch(b *testing.B) {
	i := New(Options{Rules: thousand(b)})
	a := &inspect.Attachment{PodNamespace: "agents"}
	i.Attached(a)
	var packets []*inspect.Packet
	for range 64 {
		packets = append(packets, datagram(a, 4000, 9000))
	}
	verdicts := make([]inspect.Verdict, len(packets))
	b.ReportAllocs()
	for b.Loop() {
		i.InspectBatch(packets, verdicts)
	}
}
