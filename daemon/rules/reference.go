// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/judge"
)

// Variable is a name that rules can use.
type Variable = compile.Variable

// Variables returns all names that rules can use, besides sets and variables of their
// own.
func Variables() []Variable { return compile.Variables() }

// Actions returns the words that rules have for actions.
func Actions() []string { return compile.Actions() }

// Protocols returns the values of app.protocol.
func Protocols() []string { return judge.Protocols() }
