// SPDX-License-Identifier: Apache-2.0

package fdstore

import (
	"errors"
	"math"
	"testing"
)

func TestName(t *testing.T) {
	for want, n := range map[string]Name{
		"q3ti":            {Kind: Queue, Cookie: 137},
		"q3tf":            {Kind: Queue, Cookie: 137, Strict: true},
		"l0i":             {Kind: Listener},
		"t3w5e11264sgsff": {Kind: Table, Cookie: math.MaxUint64, Strict: true},
	} {
		if n.String() != want || len(want) > 16 {
			t.Errorf("%+v is %q, want %q of at most 16 bytes", n, n.String(), want)
		}
		if got, err := ParseName(want); err != nil || got != n {
			t.Errorf("%q is %+v: %v, want %+v", want, got, err, n)
		}
	}
}

func TestParseNameRefuses(t *testing.T) {
	for _, s := range []string{
		"", "q", "qi", "q1", "q1x", "x1i", "Q1i", "q1I", "q01i", "q-1i", "q+1i", "qAi", "q_1i", "q 1i",
		"q1 i", "stored", "nsqueued.socket", "q3w5e11264sgsgi", "q3w5e11264sgsf0i",
	} {
		if n, err := ParseName(s); !errors.Is(err, ErrForeignName) {
			t.Errorf("%q is %+v: %v, want ErrForeignName", s, n, err)
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"q3ti", "l0i", "t3w5e11264sgsff", "q01i", "qq"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseName(s); err == nil && (n.String() != s || len(s) > 16) {
			t.Errorf("%q is %+v, which is %q", s, n, n.String())
		}
	})
}
