// SPDX-License-Identifier: Apache-2.0

//go:build !faultpoints

// Package fault names the points of an attachment's life at which a test can
// kill the daemon, to show that nothing is ever half attached. Only builds with
// the tag faultpoints can do it; in all others a point is nothing.
package fault

// At is a point.
func At(string) {}
