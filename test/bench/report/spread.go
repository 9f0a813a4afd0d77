// SPDX-License-Identifier: Apache-2.0

package report

import (
	"math"
	"slices"
	"strconv"
)

// Spread is what the rounds of one measurement gave, in their order.
type Spread struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"`
}

// SpreadOf returns that of values, one for each round.
func SpreadOf(rounds []float64) Spread {
	if len(rounds) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(rounds))
	n := len(sorted)
	return Spread{
		Median: (sorted[(n-1)/2] + sorted[n/2]) / 2,
		Min:    sorted[0], Max: sorted[n-1], Rounds: rounds,
	}
}

// String returns the median and, of more than one round, the extremes.
func (s Spread) String() string {
	if len(s.Rounds) == 0 {
		return "–"
	}
	if len(s.Rounds) == 1 || s.Min == s.Max {
		return number(s.Median)
	}
	return number(s.Median) + " (" + number(s.Min) + "–" + number(s.Max) + ")"
}

// Ratio compares two rows round by round: what disturbs a round disturbs both.
func Ratio(a, b Spread) Spread {
	var rounds []float64
	for i := range min(len(a.Rounds), len(b.Rounds)) {
		if b.Rounds[i] > 0 {
			rounds = append(rounds, a.Rounds[i]/b.Rounds[i])
		}
	}
	return SpreadOf(rounds)
}

// minus subtracts round by round.
func minus(a, b Spread) Spread {
	var rounds []float64
	for i := range min(len(a.Rounds), len(b.Rounds)) {
		rounds = append(rounds, a.Rounds[i]-b.Rounds[i])
	}
	return SpreadOf(rounds)
}

// number prints three significant digits, and whole numbers from 100 on.
func number(v float64) string {
	digits := 0
	if abs := math.Abs(v); abs < 100 && abs > 0 {
		digits = max(0, min(4, 2-int(math.Floor(math.Log10(abs)))))
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}
