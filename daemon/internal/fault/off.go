// SPDX-License-Identifier: Apache-2.0

//go:build !faultpoints

package fault

// At is a point.
func At(Point) {}
