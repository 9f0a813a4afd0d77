// SPDX-License-Identifier: Apache-2.0

package api

import (
	"runtime/debug"
	"testing"
)

func TestVersionOf(t *testing.T) {
	main := func(version string, settings ...debug.BuildSetting) debug.BuildInfo {
		return debug.BuildInfo{Main: debug.Module{Path: module, Version: version}, Settings: settings}
	}
	third := func(m debug.Module) debug.BuildInfo {
		m.Path = module
		return debug.BuildInfo{
			Main: debug.Module{Path: "example.com/inspector", Version: "v9.9.9"},
			Deps: []*debug.Module{{Path: "example.com/other", Version: "v8.8.8"}, &m},
			Settings: []debug.BuildSetting{ // of the inspector's repository
				{Key: "vcs.revision", Value: "0123456789abcdef"},
			},
		}
	}
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "0123456789abcdef"}
	modified := debug.BuildSetting{Key: "vcs.modified", Value: "true"}
	for name, tt := range map[string]struct {
		info debug.BuildInfo
		want string
	}{
		"own, installed":         {main("v1.2.3"), "v1.2.3"},
		"own, in its repository": {main("(devel)", revision), "0123456789ab"},
		"own, changed":           {main("(devel)", revision, modified), "0123456789ab-dirty"},
		"own, without one":       {main("(devel)"), "unknown"},
		"own, with nothing":      {main(""), "unknown"},
		"of others":              {third(debug.Module{Version: "v1.2.3"}), "v1.2.3"},
		"of others, a directory": {third(debug.Module{
			Version: "v0.0.0", Replace: &debug.Module{Path: "../nsqueue", Version: "(devel)"},
		}), "unknown"},
		"of others, a directory without a version": {third(debug.Module{
			Version: "v1.2.3", Replace: &debug.Module{Path: "../nsqueue"},
		}), "unknown"},
		"of others, another version": {third(debug.Module{
			Version: "v1.2.3", Replace: &debug.Module{Path: module, Version: "v1.2.2"},
		}), "v1.2.2"},
		"of others, a fork": {third(debug.Module{
			Version: "v1.2.3", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.2.9"},
		}), "v1.2.9 of example.com/fork"},
		"not a part": {debug.BuildInfo{Main: debug.Module{Path: "a", Version: "v1.0.0"}}, "unknown"},
	} {
		if got := versionOf(&tt.info); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}
