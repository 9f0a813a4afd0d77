// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"runtime/debug"
)

// version is set by the linker (-X) when the Makefile builds a release.
var version string

const (
	module         = "github.com/nsqueue/nsqueue"
	unknownVersion = "unknown"
	revisionLen    = 12 // as in the versions that the Go toolchain makes
)

// Version returns the version of nsqueue that the program was built of: as the
// linker was told, or else as the Go toolchain recorded it, also in programs of
// others; "unknown" where it did not.
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknownVersion
	}
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) string {
	if info.Main.Path == module {
		return cmp.Or(recorded(&info.Main), revision(info), unknownVersion)
	}
	for _, m := range info.Deps {
		if m.Path != module {
			continue
		}
		if m.Replace == nil {
			return cmp.Or(recorded(m), unknownVersion)
		}
		if v := recorded(m.Replace); v != "" && m.Replace.Path != module { // a fork
			return v + " of " + m.Replace.Path
		}
		return cmp.Or(recorded(m.Replace), unknownVersion)
	}
	return unknownVersion
}

// recorded is empty for a module that was built from a directory.
func recorded(m *debug.Module) string {
	if m.Version == "(devel)" {
		return ""
	}
	return m.Version
}

// revision is that of the repository that the program was built in.
func revision(info *debug.BuildInfo) string {
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	r := settings["vcs.revision"]
	r = r[:min(len(r), revisionLen)]
	if r != "" && settings["vcs.modified"] == "true" {
		r += "-dirty"
	}
	return r
}
