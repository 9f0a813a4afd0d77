// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/view"
	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/printable"
)

// completionTimeout is how long a shell may wait for names.
const completionTimeout = 2 * time.Second

// completeNames completes an argument by names of attachments.
func completeNames(run runner, names func([]api.Attachment) []string) cobra.CompletionFunc {
	return completeBy(run, func(ctx context.Context, c *command) ([]string, error) {
		l, err := c.client.List(ctx)
		return names(l.Attachments), err
	})
}

// completeRules completes an argument by names of rules and of their sets.
func completeRules(run runner) cobra.CompletionFunc {
	return completeBy(run, func(ctx context.Context, c *command) ([]string, error) {
		rules, err := c.client.Rules(ctx)
		return ruleNames(&rules), err
	})
}

// completeBy completes an argument by what the daemon knows. Where it does not answer
// there is nothing: a shell shows no errors.
func completeBy(
	run runner, ask func(context.Context, *command) ([]string, error),
) cobra.CompletionFunc {
	return func(
		cmd *cobra.Command, args []string, begin string,
	) ([]cobra.Completion, cobra.ShellCompDirective) {
		var found []string
		_ = run(cmd.Context(), func(ctx context.Context, c *command) error {
			ctx, cancel := context.WithTimeout(ctx, completionTimeout)
			defer cancel()
			var err error
			found, err = ask(ctx, c)
			return err
		})
		found = slices.DeleteFunc(found, func(name string) bool {
			word, _, _ := strings.Cut(name, "\t")
			return !strings.HasPrefix(word, begin) || slices.Contains(args, word) ||
				word != printable.Line(word) // it could not be typed
		})
		slices.Sort(found)
		return slices.Compact(found), cobra.ShellCompDirectiveNoFileComp
	}
}

// firstOnly completes the first argument and no further one.
func firstOnly(complete cobra.CompletionFunc) cobra.CompletionFunc {
	return func(
		cmd *cobra.Command, args []string, begin string,
	) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, begin)
	}
}

// completeFlag completes a flag of the command.
func completeFlag(cmd *cobra.Command, flag string, complete cobra.CompletionFunc) {
	_ = cmd.RegisterFlagCompletionFunc(flag, complete) // an error would say that it is done
}

// words completes from a fixed list.
func words(list ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)
}

// keyNames are the attachments, with IDs that are short but unique, and the pod as
// the description of each.
func keyNames(attachments []api.Attachment) []string {
	containers := map[string]map[string]bool{}
	for i := range attachments {
		id := attachments[i].ContainerID
		if containers[view.ShortID(id)] == nil {
			containers[view.ShortID(id)] = map[string]bool{}
		}
		containers[view.ShortID(id)][id] = true
	}
	var names []string
	for i := range attachments {
		a := &attachments[i]
		id := view.ShortID(a.ContainerID)
		if len(containers[id]) > 1 {
			id = a.ContainerID
		}
		names = append(names, id+"/"+a.Ifname+"\t"+printable.Line(a.Pod.String()))
	}
	return names
}

// podNames are the pods.
func podNames(attachments []api.Attachment) []string {
	var names []string
	for i := range attachments {
		if p := attachments[i].Pod; p.Name != "" {
			names = append(names, p.String())
		}
	}
	return names
}

// namespaceNames are the namespaces of the pods.
func namespaceNames(attachments []api.Attachment) []string {
	var names []string
	for i := range attachments {
		if p := attachments[i].Pod; p.Namespace != "" {
			names = append(names, p.Namespace)
		}
	}
	return names
}

// ruleNames are the sets of rules and their rules, with what these do.
func ruleNames(rules *api.Rules) []string {
	var names []string
	for _, set := range rules.Sets {
		names = append(names, set.Name+"\tall of the set")
		for _, rule := range set.Rules {
			names = append(names, set.Name+"/"+rule.Name+"\t"+rule.Action)
		}
	}
	return names
}

// anyNames are the pods, and the attachments.
func anyNames(attachments []api.Attachment) []string {
	return append(podNames(attachments), keyNames(attachments)...)
}
