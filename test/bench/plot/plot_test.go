// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/test/bench/report"
)

func sample() *report.Report {
	r := &report.Report{Rounds: 2}
	for _, name := range []string{report.Classic, report.Full} {
		row := report.Row{Name: name, Label: name + " <&>"}
		row.Add(report.FloodCPU, 1)
		row.Add(report.FloodCPU, 3)
		r.Rows = append(r.Rows, row)
	}
	return r
}

func TestDrawIsWellFormed(t *testing.T) {
	for name, r := range map[string]*report.Report{"full": sample(), "empty": {}} {
		t.Run(name, func(t *testing.T) {
			d := xml.NewDecoder(bytes.NewReader(draw(r)))
			bars := 0
			for {
				token, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
					bars++
				}
			}
			if bars != len(r.Rows) {
				t.Errorf("got %d bars, want %d", bars, len(r.Rows))
			}
		})
	}
}

func TestUpdateMarkdown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.md")
	text := "before\n" + beginMark + "\nold\n" + endMark + "\nafter\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second update replaces the first
		if err := updateMarkdown(path, sample()); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := string(b)
	if !strings.HasPrefix(got, "before\n") || !strings.HasSuffix(got, "after\n") ||
		strings.Contains(got, "old") || strings.Count(got, "### Contenders") != 1 {
		t.Errorf("got:\n%s", got)
	}
	if err := os.WriteFile(path, []byte("no marks"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := updateMarkdown(path, sample()); err == nil {
		t.Error("a file without markers was changed")
	}
}
