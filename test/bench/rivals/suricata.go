// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// suricata is the program that the packages of a directory have.
type suricata struct {
	root, version string
	dir           string // of its configuration
	rules         string
}

// suricataConfig has it write one line for each refusal, and nothing else. What it says
// nothing of is as Suricata has it by default.
const suricataConfig = `%%YAML 1.1
---
vars: {address-groups: {HOME_NET: any, EXTERNAL_NET: any}, port-groups: {}}
classification-file: %[1]s/etc/suricata/classification.config
reference-config-file: %[1]s/etc/suricata/reference.config
stats: {enabled: no}
logging: {default-log-level: error, outputs: [{console: {enabled: yes}}]}
outputs: [{fast: {enabled: yes, filename: fast.log, append: no}}]
app-layer:
  protocols:
    tls: {enabled: yes, detection-ports: {dp: 443}}
    dns:
      udp: {enabled: yes, detection-ports: {dp: 53}}
      tcp: {enabled: yes, detection-ports: {dp: 53}}
    http: {enabled: yes}
`

// newSuricata looks whether it runs.
func newSuricata(ctx context.Context, root, dir string) (*suricata, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	s := &suricata{root: root, dir: dir}
	out, err := s.command(ctx, "-V").CombinedOutput()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no Suricata in %s: make bench-rivals puts it there", root)
	}
	if err != nil {
		return nil, fmt.Errorf("ask Suricata for its version: %w: %s", err, out)
	}
	s.version = strings.TrimPrefix(strings.TrimSpace(string(out)), "This is ")
	return s, os.WriteFile(s.config(), fmt.Appendf(nil, suricataConfig, root), 0o600)
}

func (s *suricata) config() string { return filepath.Join(s.dir, "suricata.yaml") }

// command runs it with the libraries that were unpacked with it.
func (s *suricata) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.root, "usr/bin/suricata"), args...)
	libraries, _ := filepath.Glob(filepath.Join(s.root, "usr/lib/*-linux-gnu"))
	more, _ := filepath.Glob(filepath.Join(s.root, "lib/*-linux-gnu"))
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(append(libraries, more...), ":"))
	return cmd
}

func (s *suricata) name() string { return "Suricata" }

func (s *suricata) prepare(dir string, number int) error {
	s.rules = filepath.Join(dir, "suricata.rules")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(s.rules, []byte(suricataRules(number)), 0o600)
}

func (s *suricata) read(ctx context.Context, c capture) (time.Duration, map[string]int, error) {
	logs, err := os.MkdirTemp(s.dir, "logs")
	if err != nil {
		return 0, nil, err
	}
	cmd := s.command(ctx, "-c", s.config(), "-S", s.rules, "-r", c.path, "-l", logs,
		"--runmode", "single", "-k", "none")
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, nil, fmt.Errorf("%w: %s", err, out)
	}
	lines, err := os.ReadFile(filepath.Join(logs, "fast.log"))
	if err != nil {
		return 0, nil, err
	}
	return spent(cmd), refusedIn(string(lines)), os.RemoveAll(logs)
}

// refusedIn counts lines like "… [**] [1:1000007:1] r7 [**] …" by their rule.
func refusedIn(lines string) map[string]int {
	counts := make(map[string]int)
	for _, m := range regexp.MustCompile(`\[\*\*\] \[\d+:\d+:\d+\] (r\d+) \[\*\*\]`).
		FindAllStringSubmatch(lines, -1) {
		counts[m[1]]++
	}
	return counts
}
