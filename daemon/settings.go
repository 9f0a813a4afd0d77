// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/daemon/node"
)

// settings are the daemon's, as the command line gives them.
type settings struct {
	file  string
	flags node.Config
}

func newSettings() *settings { return &settings{flags: node.DefaultConfig()} }

// addTo adds the flags.
func (s *settings) addTo(cmd *cobra.Command) {
	f, flags := cmd.Flags(), &s.flags
	f.StringVar(&s.file, "config", "", "configuration `file` (YAML, kind "+node.ConfigKind+")")
	f.StringVar(&flags.Socket, "socket", flags.Socket, "`path` of the API's unix socket")
	f.StringVar(&flags.StateDir, "state-dir", flags.StateDir,
		"`directory` of what survives a restart, on a tmpfs")
	f.StringVar(&flags.Hook, "hook", flags.Hook, "what queues packets: auto, nft or kmod")
	f.StringVar(&flags.KmodPath, "kmod-path", "",
		"`file` of the module for --hook kmod (default: the installed one)")
	f.StringVar(&flags.KmodSysctls, "kmod-sysctls", flags.KmodSysctls,
		"`directory` of the network's sysctls, for --hook kmod in a container")
	f.StringVar((*string)(&flags.FailurePolicy), "failure-policy", string(flags.FailurePolicy),
		"Ignore or Fail, for attach requests that name none")
	f.BoolVar(&flags.Adopt.Existing, "adopt-existing", flags.Adopt.Existing,
		"at the start, attach pods that are older than nsqueued")
	f.StringVar(&flags.Rules.Directory, "rules", "", "`directory` of the rules to inspect by")
	f.StringVar((*string)(&flags.LogLevel), "log-level", string(flags.LogLevel),
		"debug, info, warn or error; nsqueuectl log-level changes it later")
	f.StringVar(&flags.LogFormat, "log-format", flags.LogFormat, "text or json")
	f.StringVar(&flags.MetricsAddress, "metrics-address", "",
		"`host:port` in numbers where Prometheus scrapes /metrics (default: observe.sock alone)")
}

// config returns the file's configuration, or the default, with the flags that were given
// over it. What the flags say is not validated.
func (s *settings) config(given *cobra.Command) (node.Config, error) {
	c, flags := node.DefaultConfig(), &s.flags
	if s.file != "" {
		var err error
		if c, err = node.LoadConfig(s.file); err != nil {
			return node.Config{}, err
		}
	}
	for name, set := range map[string]func(){
		"socket":          func() { c.Socket = flags.Socket },
		"state-dir":       func() { c.StateDir = flags.StateDir },
		"hook":            func() { c.Hook = flags.Hook },
		"kmod-path":       func() { c.KmodPath = flags.KmodPath },
		"kmod-sysctls":    func() { c.KmodSysctls = flags.KmodSysctls },
		"failure-policy":  func() { c.FailurePolicy = flags.FailurePolicy },
		"adopt-existing":  func() { c.Adopt.Existing = flags.Adopt.Existing },
		"rules":           func() { c.Rules.Directory = flags.Rules.Directory },
		"log-level":       func() { c.LogLevel = flags.LogLevel },
		"log-format":      func() { c.LogFormat = flags.LogFormat },
		"metrics-address": func() { c.MetricsAddress = flags.MetricsAddress },
	} {
		if given.Flags().Changed(name) {
			set()
		}
	}
	return c, nil
}
