// SPDX-License-Identifier: Apache-2.0

package api

import "runtime/debug"

// version is set by the linker (-X) when the Makefile builds a release.
var version string

// Version returns the version of the program that runs, as the linker was told
// or else as the Go toolchain recorded it.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
