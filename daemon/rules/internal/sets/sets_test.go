// SPDX-License-Identifier: Apache-2.0

package sets

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

func TestDomains(t *testing.T) {
	set := NewDomains(0)
	for _, text := range []string{"packages.example.org", "*.Mirror.example.net.", "_sip.example"} {
		if err := set.Add(text); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]bool{
		"packages.example.org":     true,
		"PACKAGES.Example.org.":    true,
		"a.packages.example.org":   false,
		"example.org":              false,
		"mirror.example.net":       false, // the pattern is what is below it
		"a.mirror.example.net":     true,
		"A.b.c.mirror.EXAMPLE.net": true,
		"amirror.example.net":      false,
		".mirror.example.net":      false,
		"_sip.example":             true,
		"":                         false,
		".":                        false,
		strings.Repeat("a.", 200) + "example.org": false,
		"*.mirror.example.net.evil":               false,
	} {
		if got := set.Contains(name); got != want {
			t.Errorf("Contains(%q) = %v", name, got)
		}
	}
}

func TestDomainsRefused(t *testing.T) {
	for text, hint := range map[string]string{
		"":                                "empty",
		"*":                               "only at the start",
		"a.*.example":                     "only at the start",
		"*a.example":                      "only at the start",
		"a..example":                      "empty",
		"bücher.example":                  "xn--",
		"a b.example":                     "' '",
		"192.0.2.1":                       "cidrs",
		"example.org/path":                "'/'",
		strings.Repeat("a", 64) + ".org":  "63",
		strings.Repeat("abc.", 70) + "de": "253",
	} {
		err := NewDomains(0).Add(text)
		if err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("Add(%q) = %v, want a word of %q", text, err, hint)
		}
	}
}

func TestLines(t *testing.T) {
	set := NewDomains(0)
	wrong := set.AddLines("# ads\r\nads.example # all of them\n\n *.ads.example\r\nbad name\n10.0.0.1")
	if len(wrong) != 2 || wrong[0].Line != 5 || wrong[1].Line != 6 {
		t.Errorf("AddLines = %v", wrong)
	}
	if !set.Contains("ads.example") || !set.Contains("x.ads.example") || set.Len() != 2 {
		t.Errorf("the set has %v and %v", set.exact, set.below)
	}
}

func TestLongList(t *testing.T) {
	var list strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&list, "n%d.example\n*.p%d.example\n", i, i)
	}
	set := NewDomains(0)
	if wrong := set.AddLines(list.String()); wrong != nil || set.Len() != 6000 {
		t.Errorf("%d names, %v", set.Len(), wrong)
	}
	for _, name := range []string{"n0.example", "n2999.example", "A.p0.example", "a.b.p2999.example"} {
		if !set.Contains(name) {
			t.Errorf("it does not contain %s", name)
		}
	}
	if set.Contains("a.n0.example") || set.Contains("p0.example") {
		t.Error("it contains what it was not given")
	}
}

func TestPrefixes(t *testing.T) {
	var set Prefixes
	for _, text := range []string{"10.96.0.0/12", "fd00::/8", "169.254.169.254", "::ffff:192.0.2.0/120"} {
		if err := set.Add(text); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string]bool{
		"10.96.0.1": true, "10.112.0.0": false, "fd00::1": true, "fe80::1": false,
		"169.254.169.254": true, "169.254.169.253": false, "192.0.2.7": true,
		"::ffff:10.96.0.1": true, "::ffff:192.0.2.7": true,
	} {
		if got := set.Contains(netip.MustParseAddr(text)); got != want {
			t.Errorf("Contains(%s) = %v", text, got)
		}
	}
	if set.Contains(netip.Addr{}) {
		t.Error("no address is in the set")
	}
}

func TestPrefixesRefused(t *testing.T) {
	for text, hint := range map[string]string{
		"": "10.0.0.0/8", "x/8": "10.0.0.0/8", "10.0.0.0/33": "10.0.0.0/8",
		"10.0.0.1/8": "write 10.0.0.0/8", "fe80::1%eth0": "10.0.0.0/8",
	} {
		if err := new(Prefixes).Add(text); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("Add(%q) = %v, want a word of %q", text, err, hint)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	set, addr := big(t, 1000), netip.MustParseAddr("10.1.2.3")
	var prefixes Prefixes
	if err := prefixes.Add("10.0.0.0/8"); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		set.Contains("n7.example")
		set.Contains("A.B.C.Below.Example")
		prefixes.Contains(addr)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzDomains(f *testing.F) {
	f.Add("*.example.org", "a.example.org")
	f.Add("example.org.", "EXAMPLE.org")
	f.Add("*..", "\x00.")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		set := NewDomains(1)
		if set.Add(pattern) != nil {
			return
		}
		lower := strings.ToLower(strings.TrimSuffix(pattern, "."))
		if rest, ok := strings.CutPrefix(lower, "*."); ok {
			if set.Contains(rest) || !set.Contains("a."+rest) && len(rest) < maxName-1 {
				t.Errorf("%q: wrong at its own name or below it", pattern)
			}
		} else if !set.Contains(lower) {
			t.Errorf("%q does not contain itself", pattern)
		}
		set.Contains(name)
	})
}

func big(tb testing.TB, size int) *Domains {
	set := NewDomains(size)
	for i := range size {
		if err := set.Add(fmt.Sprintf("n%d.example", i)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := set.Add("*.below.example"); err != nil {
		tb.Fatal(err)
	}
	return set
}

func BenchmarkDomains(b *testing.B) {
	set := big(b, 1_000_000)
	benchmarkNames(b, set, "n77777.example", "miss.below.exampl", "a.b.below.example")
	patterns := NewDomains(0)
	for i := range 1_000_000 {
		if err := patterns.Add(fmt.Sprintf("*.n%d.example", i)); err != nil {
			b.Fatal(err)
		}
	}
	benchmarkNames(b, patterns, "www.n77777.example", "www.miss.exampl")
}

// benchmarkNames asks for each name, and for many that are spread over the set.
func benchmarkNames(b *testing.B, set *Domains, names ...string) {
	for _, name := range names {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				set.Contains(name)
			}
		})
	}
	spread := make([]string, 1<<16)
	for i := range spread {
		spread[i] = fmt.Sprintf("n%d.example", i*15)
	}
	b.Run("spread", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			set.Contains(spread[i%len(spread)])
		}
	})
}

func BenchmarkPrefixes(b *testing.B) {
	var set Prefixes
	random := rand.New(rand.NewPCG(1, 1))
	for range 100_000 {
		addr := netip.AddrFrom4([4]byte{10 + byte(random.Uint32()%100), byte(random.Uint32()), byte(random.Uint32()), 0})
		if err := set.Add(netip.PrefixFrom(addr, 24).String()); err != nil {
			b.Fatal(err)
		}
	}
	for _, text := range []string{"10.1.2.3", "203.0.113.9", "2001:db8::1"} {
		addr := netip.MustParseAddr(text)
		b.Run(text, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				set.Contains(addr)
			}
		})
	}
}

func BenchmarkLines(b *testing.B) {
	var list strings.Builder
	for i := range 1_000_000 {
		fmt.Fprintf(&list, "name-of-%d.example.org\n", i)
	}
	b.ReportAllocs()
	for b.Loop() {
		NewDomains(0).AddLines(list.String())
	}
}
