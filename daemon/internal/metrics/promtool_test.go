// SPDX-License-Identifier: Apache-2.0

//go:build promtool

package metrics_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// promtool runs the tool, which `make promtool` fetches.
func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	path, err := filepath.Abs(root + "bin/tools/promtool")
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		if path, err = exec.LookPath("promtool"); err != nil {
			t.Fatalf("%v: run `make promtool`", err)
		}
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir, cmd.Stdin = deployed, strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
}

func TestPromtool(t *testing.T) {
	m := newMetrics(&node{pods: pods(2)}, true)
	promtool(t, scrape(t, m), "check", "metrics")
	promtool(t, "", "check", "rules", "--lint-fatal", "alerts.yaml")
	promtool(t, "", "test", "rules", "alerts_test.yaml")
}

// promtool reads a dashboard's queries as those of rules.
func TestPromtoolReadsDashboard(t *testing.T) {
	variables := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*")
	var rules []any
	for _, panel := range readDashboard(t).Panels {
		for _, target := range panel.Targets {
			rules = append(rules, map[string]any{
				"record": fmt.Sprintf("query:%d", len(rules)), "expr": variables.Replace(target.Expr),
			})
		}
	}
	text, err := json.Marshal(map[string]any{
		"groups": []any{map[string]any{"name": "queries", "rules": rules}},
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "rules", path)
}
