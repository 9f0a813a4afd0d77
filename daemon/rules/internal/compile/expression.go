// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"go.yaml.in/yaml/v3"
)

// maxCost bounds how many parts of expressions a rule asks, variables counted where they
// are used: each packet of an undecided flow may pay for it.
const maxCost = 10_000

// scope is what the expressions of one document may name.
type scope struct {
	doc       *document
	before    *compiled        // the set of this name in the program before, if any
	variables map[string]value // by their names in expressions
	labels    bool

	base     func() (*cel.Env, error)
	declared []cel.EnvOption
	env      *cel.Env // what is declared; nil until an expression has to be checked
	err      error    // why that is impossible, which is no fault of the document

	// digests stand for what the names of sets and variables mean.
	digests map[string]digest
	// used has those names of them that were found since it was made.
	used map[string]bool
}

// declare adds to what expressions may name.
func (s *scope) declare(o cel.EnvOption) {
	s.declared, s.env = append(s.declared, o), nil
}

// environment returns what expressions are checked against, or nil.
func (s *scope) environment() *cel.Env {
	if s.env != nil || s.err != nil {
		return s.env
	}
	base, err := s.base()
	if err == nil {
		s.env, err = base.Extend(s.declared...)
	}
	if err != nil {
		s.env, s.err = nil, fmt.Errorf("declare the names of rules: %w", err)
	}
	return s.env
}

// expression is one expression that is being compiled.
type expression struct {
	*scope
	node    *yaml.Node
	source  *ast.SourceInfo
	types   *ast.AST
	message bool // texts may be joined
	macro   bool // a macro of CEL that rules do not have was noted
	locals  []local
}

// local is a name that exists or all brings.
type local struct {
	name string
	kind kind
}

// compile checks the expression of a scalar and compiles it. It returns false if it has
// noted what is wrong.
func (s *scope) compile(n *yaml.Node, message bool) (value, *cel.Type, bool) {
	if n.Kind != yaml.ScalarNode || n.Value == "" {
		s.doc.wrongKind(n, "an expression", "a text, as in server.port == 443")
		return value{}, nil, false
	}
	env := s.environment()
	if env == nil {
		return value{}, nil, false
	}
	checked, issues := env.Compile(n.Value)
	e := &expression{scope: s, node: n, message: message}
	if issues.Err() != nil {
		for _, issue := range issues.Errors() {
			if e.issue(issue.Location, issue.Message); e.macro {
				break // its variables are not known either
			}
		}
		return value{}, nil, false
	}
	e.types = checked.NativeRep()
	e.source = e.types.SourceInfo()
	result := e.compile(e.types.Expr())
	if result.cost > maxCost {
		s.doc.errorf(n, "the expression has more than %d parts, with those of its variables",
			maxCost)
		return value{}, nil, false
	}
	return result, checked.OutputType(), result.kind != invalid
}

// condition compiles an expression that is true or false.
func (s *scope) condition(n *yaml.Node) (value, bool) {
	result, _, ok := s.compile(n, false)
	if ok && result.kind != kindBool {
		s.doc.errorf(n, "a condition is true or false, as in server.port == 443")
		return value{}, false
	}
	return result, ok
}

func (e *expression) compile(x ast.Expr) value {
	switch x.Kind() {
	case ast.LiteralKind:
		return e.literal(x)
	case ast.IdentKind:
		return e.name(x)
	case ast.SelectKind:
		return e.word(x, x.AsSelect().Operand(), constString(x.AsSelect().FieldName()))
	case ast.ListKind:
		return e.list(x)
	case ast.CallKind:
		return e.call(x)
	case ast.ComprehensionKind:
		return e.comprehension(x)
	}
	return e.fail(x, "maps and messages are not written in rules: compare values one by one")
}

func (e *expression) literal(x ast.Expr) value {
	switch literal := x.AsLiteral().(type) {
	case types.Bool:
		return constBool(bool(literal))
	case types.Int:
		return constInt(int64(literal))
	case types.String:
		return constString(string(literal))
	}
	return e.fail(x, "a literal is true, false, a whole number, or a text")
}

func (e *expression) name(x ast.Expr) value {
	name := x.AsIdent()
	for i, v := range slices.Backward(e.locals) {
		if v.name == name {
			return e.local(i)
		}
	}
	name = strings.TrimPrefix(name, ".")
	if name == "pod.labels" && !e.labels {
		return e.fail(x, "pod.labels is not known here: nothing tells the daemon a pod's "+
			"labels (labels.source of its configuration); ask for pod.namespace, or for "+
			"pod.annotations, of which those come that passAnnotations of the CNI entry names")
	}
	if v, ok := e.variables[name]; ok {
		if _, ok := e.digests[name]; ok {
			e.used[name] = true
		}
		return v
	}
	return e.fail(x, "%q is no name of rules", name)
}

func (e *expression) local(slot int) value {
	result := value{kind: e.locals[slot].kind, cost: 1}
	if result.kind == kindInt {
		result.num = func(f *Flow) (int64, bool) { return f.intSlots[slot], true }
	} else {
		result.str = func(f *Flow) (string, bool) { return f.stringSlots[slot], true }
	}
	return result
}

func (e *expression) list(x ast.Expr) value {
	items := make([]value, 0, x.AsList().Size())
	for _, element := range x.AsList().Elements() {
		item := e.compile(element)
		switch item.kind {
		case invalid:
			return item
		case kindString, kindInt, kindIP:
		default:
			return e.fail(element, "a list has texts, numbers, or addresses")
		}
		items = append(items, item)
	}
	return literalList(items)
}

func (e *expression) comprehension(x ast.Expr) value {
	c := x.AsComprehension()
	list := e.compile(c.IterRange())
	if list.kind == invalid {
		return list
	}
	if len(e.locals) == maxNesting {
		return e.fail(x, "exists and all stand in each other %d deep at most", maxNesting)
	}
	element := kindString
	if list.literal && len(list.items) > 0 {
		element = list.items[0].kind
	}
	until := tri(c.LoopStep().AsCall().FunctionName() == operators.LogicalOr)
	e.locals = append(e.locals, local{c.IterVar(), element})
	condition := e.compile(c.LoopStep().AsCall().Args()[1])
	e.locals = e.locals[:len(e.locals)-1]
	if condition.kind == invalid {
		return condition
	}
	if condition.kind == kindBool && list.kind == kindList {
		if result, ok := quantify(list, condition, len(e.locals), until); ok {
			return result
		}
	}
	return e.fail(x, "exists and all go over server.names, tls.alpn, or literal texts or numbers")
}

// fail notes what is wrong with a part of the expression.
func (e *expression) fail(x ast.Expr, format string, args ...any) value {
	e.failIndex(e.index(e.source.GetStartLocation(x.ID())), fmt.Sprintf(format, args...))
	return value{}
}

func (e *expression) failIndex(index int, text string) {
	line, column := e.doc.source.locate(e.node, index)
	e.doc.errorAt(line, column, "%s", text)
}

// index returns how many characters of the expression are before a place in it.
func (e *expression) index(at common.Location) int {
	index := 0
	for number, line := range strings.Split(e.node.Value, "\n") {
		if number+1 == at.Line() {
			return index + max(at.Column(), 0)
		}
		index += utf8.RuneCountInString(line) + 1
	}
	return 0
}
