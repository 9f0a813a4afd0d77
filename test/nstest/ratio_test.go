// SPDX-License-Identifier: Apache-2.0

package nstest

import "testing"

func TestRatio(t *testing.T) {
	for _, tt := range []struct {
		rates, to []float64
		want      string
	}{
		{[]float64{3}, []float64{2}, "1.50 (1.50–1.50)"},
		{[]float64{8, 1, 4}, []float64{4, 4, 4}, "1.00 (0.25–2.00)"},
		{[]float64{6, 2, 4, 10}, []float64{2, 2, 2, 2}, "2.50 (1.00–5.00)"},
	} {
		if got := Ratio(tt.rates, tt.to); got != tt.want {
			t.Errorf("%v to %v: %s, want %s", tt.rates, tt.to, got, tt.want)
		}
	}
}
