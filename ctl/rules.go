// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/trial"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// newRules returns the commands about rules.
func newRules(s *IOStreams, all *globalFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Check, try and show the rules that decide packets",
		Long: `Check, try and show the rules that decide packets.

check, test and try read files. They need neither nsqueued nor root.`,
		Example: `  nsqueuectl rules check /etc/nsqueue/rules.d
  nsqueuectl rules try --pod agents/a1 --out 203.0.113.5:443 --sni example.org \
    /etc/nsqueue/rules.d`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, build := range []func(runner) *cobra.Command{
		newRulesCheck, newRulesList, newRulesReload, newRulesSuggest, newRulesTest, newRulesTry,
	} {
		cmd.AddCommand(newCommand(s, all, build))
	}
	return cmd
}

// statusError is an error that ends the program with a status of its own.
type statusError struct {
	status int
	cause  error
}

func (e *statusError) Error() string { return e.cause.Error() }

func (e *statusError) Unwrap() error { return e.cause }

// unreadable is for files that cannot be read.
func unreadable(err error) error {
	if err == nil {
		return nil
	}
	return &statusError{statusUsage, err}
}

// loadRules reads rules, which may ask for labels or not. What is wrong with them is an
// [rules.Errors].
func loadRules(paths []string, labels bool) (*rules.Rules, error) {
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, unreadable(fmt.Errorf("read rules: %w", err))
		}
		_ = f.Close() // nothing was written
	}
	loader := rules.Loader{Read: os.ReadFile, Labels: labels}
	return loader.Load(nil, paths...)
}

// usableRules reads rules for a command that is of no use without.
func usableRules(paths []string) (*rules.Rules, error) {
	r, err := loadRules(paths, true)
	if errs, ok := errors.AsType[rules.Errors](err); ok {
		return nil, unreadable(fmt.Errorf("the rules are wrong:\n%w", errs))
	}
	return r, err
}

// podFlags say which pod rules are asked about.
type podFlags struct {
	name        string
	annotations []string
	labels      []string
}

func (f *podFlags) addTo(cmd *cobra.Command, run runner, usage string) {
	flags := cmd.Flags()
	flags.StringVar(&f.name, "pod", "", usage)
	flags.StringArrayVar(&f.annotations, "annotation", nil,
		"the pod has the annotation `KEY=VALUE`; may be\ngiven several times")
	flags.StringArrayVar(&f.labels, "label", nil,
		"the pod has the label `KEY=VALUE`; may be given\nseveral times")
	completeFlag(cmd, "pod", completeNames(run, podNames))
}

func (f *podFlags) pod() (rules.Pod, error) {
	p, err := parsePod(f.name)
	pod := rules.Pod{
		Namespace: p.Namespace, Name: p.Name, Interface: "eth0",
	}
	if err != nil {
		return pod, err
	}
	if pod.Annotations, err = keysAndValues("annotation", f.annotations); err != nil {
		return pod, err
	}
	pod.Labels, err = keysAndValues("label", f.labels)
	return pod, err
}

func keysAndValues(what string, list []string) (map[string]string, error) {
	all := make(map[string]string, len(list))
	for _, text := range list {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, usageErrorf("%s %q: want KEY=VALUE", what, text)
		}
		all[key] = value
	}
	return all, nil
}

// effectText says what a rule does besides deciding.
func effectText(e trial.Effect) string {
	name := e.RuleSet + "/" + e.Rule
	if e.Audit {
		return "would " + e.Action + ": " + name
	}
	return e.Action + ": " + name
}

func effectTexts(effects []trial.Effect) string {
	var all []string
	for _, e := range effects {
		all = append(all, effectText(e))
	}
	return strings.Join(all, ", ")
}
