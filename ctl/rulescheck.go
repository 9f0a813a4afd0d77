// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

func newRulesCheck(run runner) *cobra.Command {
	var noLabels bool
	cmd := &cobra.Command{
		Use:   "check FILE|DIRECTORY...",
		Short: "Say whether files of rules are right",
		Long: `Say whether files of rules are right, and what is wrong with them otherwise: a
line for each error, with file, line and column. Of a directory it reads the
files whose names end in .yaml or .yml, as nsqueued does. Give all files of a
node at once, since names of sets must differ.

It needs neither nsqueued nor root.

Exit status:
  0  the rules are right
  1  they are wrong
  2  a file cannot be read`,
		Example: `  nsqueuectl rules check /etc/nsqueue/rules.d
  nsqueuectl rules check -o json sandbox.yaml`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd.Context(), func(_ context.Context, c *command) error {
				return checkRules(c, args, !noLabels)
			})
		},
	}
	cmd.Flags().BoolVar(&noLabels, "no-labels", false,
		"refuse rules that ask for pod.labels, as nsqueued\ndoes without a source of labels")
	return cmd
}

// checked is what check says to programs.
type checked struct {
	Files  []string      `json:"files"`
	Sets   []checkedSet  `json:"sets"`
	Errors []checkedFail `json:"errors"`
}

type checkedSet struct {
	Name  string `json:"name"`
	File  string `json:"file"`
	Line  int    `json:"line"`
	Rules int    `json:"rules"`
}

type checkedFail struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
}

func checkRules(c *command, paths []string, labels bool) error {
	r, err := loadRules(paths, labels)
	errs, wrong := errors.AsType[rules.Errors](err)
	if err != nil && !wrong {
		return err
	}
	result := checked{Files: []string{}, Sets: []checkedSet{}, Errors: []checkedFail{}}
	for _, e := range errs {
		result.Errors = append(result.Errors, checkedFail{e.File, e.Line, e.Column, e.Text})
	}
	if !wrong {
		result.Files = append(result.Files, r.Files()...)
		for _, s := range r.Sets() {
			result.Sets = append(result.Sets, checkedSet{s.Name, s.Source, s.Line, len(s.Rules)})
		}
	}
	if err := c.writeChecked(&result, errs); err != nil || !wrong {
		return err
	}
	return errors.New(text.Plural(len(errs), "error"))
}

func (c *command) writeChecked(result *checked, errs rules.Errors) error {
	if c.printer().Structured() {
		return c.printer().Object(result)
	}
	for _, e := range errs {
		if err := c.printLine("%v", e); err != nil {
			return err
		}
	}
	if len(errs) > 0 {
		return nil
	}
	count := 0
	for _, s := range result.Sets {
		count += s.Rules
	}
	return c.printLine("%s with %s are right", text.Plural(len(result.Sets), "set"),
		text.Plural(count, "rule"))
}
