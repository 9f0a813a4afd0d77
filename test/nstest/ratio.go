// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"fmt"
	"slices"
)

// Ratio says how rates compare with those that were measured in the same rounds, as
// "0.98 (0.95–1.02)": the median of the rounds, the least and the most.
func Ratio(rates, to []float64) string {
	ratios := make([]float64, len(rates))
	for i := range rates {
		ratios[i] = rates[i] / to[i]
	}
	slices.Sort(ratios)
	last := len(ratios) - 1
	return fmt.Sprintf("%.2f (%.2f–%.2f)", (ratios[last/2]+ratios[(last+1)/2])/2, ratios[0],
		ratios[last])
}
