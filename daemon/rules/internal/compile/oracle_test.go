// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/decls"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/sets"
)

// oracle decides flows with CEL's own evaluator, which knows of unknown variables.
type oracle struct {
	tb   testing.TB
	env  *cel.Env
	sets map[string]any
	asks map[*randomRule]cel.Program
}

// object is a set, or a domain, as a value of CEL.
type object struct {
	of   *cel.Type
	what any
}

func (o object) ConvertToNative(reflect.Type) (any, error) { return o.what, nil }
func (o object) ConvertToType(ref.Type) ref.Val            { return types.NewErr("no conversion") }
func (o object) Equal(other ref.Val) ref.Val               { return types.Bool(o == other) }
func (o object) Type() ref.Type                            { return o.of }
func (o object) Value() any                                { return o.what }

func bindings(id string) cel.OverloadOpt {
	switch id {
	case containsDomain:
		return cel.BinaryBinding(func(set, name ref.Val) ref.Val {
			return types.Bool(set.Value().(*sets.Domains).Contains(name.Value().(string)))
		})
	case containsAddress:
		return cel.BinaryBinding(func(set, addr ref.Val) ref.Val {
			return types.Bool(set.Value().(*sets.Prefixes).Contains(addr.(ext.IP).Addr))
		})
	case domainOfString:
		return cel.UnaryBinding(func(name ref.Val) ref.Val {
			return object{cel.ObjectType("nsqueue.Domain", traits.MatcherType), name.Value()}
		})
	}
	// CEL's own binding of matches calls Match.
	return func(form *decls.OverloadDecl) (*decls.OverloadDecl, error) { return form, nil }
}

// Match is domain().matches.
func (o object) Match(pattern ref.Val) ref.Val {
	set := sets.NewDomains(1)
	if err := set.Add(pattern.Value().(string)); err != nil {
		return types.WrapErr(err)
	}
	return types.Bool(set.Contains(o.what.(string)))
}

func newOracle(tb testing.TB) *oracle {
	tb.Helper()
	env, err := environment(bindings)
	if err == nil {
		env, err = env.Extend(cel.Variable("sets.names", domainsType()),
			cel.Variable("sets.nets", addressesType()), cel.ParserExpressionSizeLimit(-1))
	}
	if err != nil {
		tb.Fatal(err)
	}
	names, nets := sets.NewDomains(0), &sets.Prefixes{}
	for _, err := range []error{names.Add("*.blocked.example"), names.Add("x"), nets.Add("10.0.0.0/8")} {
		if err != nil {
			tb.Fatal(err)
		}
	}
	return &oracle{tb: tb, env: env, asks: make(map[*randomRule]cel.Program), sets: map[string]any{
		"sets.names": object{domainsType(), names}, "sets.nets": object{addressesType(), nets},
	}}
}

// ask evaluates a rule.
func (o *oracle) ask(rule *randomRule, vars cel.PartialActivation) Tri {
	o.tb.Helper()
	program := o.asks[rule]
	if program == nil {
		ast, issues := o.env.Compile(rule.inlined)
		if issues.Err() != nil {
			o.tb.Fatalf("%s: %v", rule.inlined, issues.Err())
		}
		var err error
		if program, err = o.env.Program(ast, cel.EvalOptions(cel.OptPartialEval)); err != nil {
			o.tb.Fatal(err)
		}
		o.asks[rule] = program
	}
	answer, _, err := program.Eval(vars)
	if err != nil {
		o.tb.Fatalf("%s: %v", rule.inlined, err)
	}
	if types.IsUnknown(answer) {
		return Unknown
	}
	return tri(answer == types.True)
}

// variables returns what is known of a flow for the evaluator.
func (o *oracle) variables(f *Flow) cel.PartialActivation {
	o.tb.Helper()
	values := make(map[string]any)
	var unknown []*cel.AttributePatternType
	maps.Copy(values, o.sets)
	for _, v := range Variables() {
		if need := v.Reads & Everything; f.Known&need != need {
			unknown = append(unknown, cel.AttributePattern(v.Name))
			continue
		}
		values[v.Name] = v.of(f)
	}
	vars, err := cel.PartialVars(values, unknown...)
	if err != nil {
		o.tb.Fatal(err)
	}
	return vars
}

func (v *Variable) of(f *Flow) any {
	switch {
	case v.str != nil:
		return v.str(f)
	case v.num != nil:
		return v.num(f)
	case v.flag != nil:
		return v.flag(f)
	case v.ip != nil:
		return ext.IP{Addr: v.ip(f)}
	case v.list != nil:
		return v.list(f)
	}
	return v.words(f.Pod)
}

// decide is what a Decision is by its definition.
func (o *oracle) decide(all []*randomSet, f *Flow) (verdict Verdict, by string, effects []string) {
	o.tb.Helper()
	vars := o.variables(f)
	sorted := slices.SortedFunc(slices.Values(all), func(a, b *randomSet) int {
		return cmp.Or(a.priority-b.priority, cmp.Compare(a.name, b.name))
	})
	for _, set := range sorted {
		verdict, by, some := o.decideSet(set, f, vars)
		effects = append(effects, some...)
		if by != "" {
			return verdict, by, effects
		}
	}
	return Accepted, "", effects
}

func (o *oracle) decideSet(
	set *randomSet, f *Flow, vars cel.PartialActivation,
) (verdict Verdict, by string, effects []string) {
	o.tb.Helper()
	ends := func(action Action, name string) (Verdict, string, []string) {
		name = set.name + "/" + name
		switch {
		case action == Next:
			return Undecided, "", effects
		case set.audit:
			return Undecided, "", append(effects, name)
		}
		return action.verdict(), name, effects
	}
	if set.AcceptMidstream {
		if f.Known&Packet == 0 {
			return Undecided, set.name + "/midstream", effects
		}
		if f.Midstream {
			return ends(Accept, "midstream")
		}
	}
	for _, rule := range set.rules {
		switch answer := o.ask(rule, vars); {
		case answer == Unknown:
			return Undecided, set.name + "/" + rule.name, effects
		case answer == False:
		case rule.action == Log || rule.action == Count:
			effects = append(effects, set.name+"/"+rule.name)
		default:
			return ends(rule.action, rule.name)
		}
	}
	return ends(set.fallback, "default")
}

// compare compiles random sets, and decides random flows by them and by the oracle.
func compare(t *testing.T, o *oracle, c *choices) {
	t.Helper()
	o.tb = t
	clear(o.asks)
	all := randomSets(c)
	var texts, before []string
	other := strings.NewReplacer(c.of("443", "tls", "sets.names"), "80", c.of("x]", "8]", "v0"), "x]")
	for _, set := range all {
		texts = append(texts, set.text())
		before = append(before, other.Replace(set.text()))
	}
	// What is taken over from others decides as if it was compiled. They may be wrong.
	was, _ := compileTexts(before...)
	program, err := compileAfter(was, texts...)
	if err != nil {
		t.Fatalf("%v\n%v", err, texts)
	}
	for i := range 4 {
		f := randomFlow(c)
		list := foldAs(program, f.Pod, i%2 == 1)
		var p, again Progress
		// Less is known at first. What is decided then must stay.
		known := f.Known
		f.Known &= Stage(c.pick(int(Everything) + 1))
		early := list.Decide(f, &again)
		verdict, by, _ := o.decide(all, f)
		if early.Verdict != verdict || early.Name() != by {
			t.Fatalf("early: %v by %s, want %v by %s\n%v", early.Verdict, early.Name(), verdict, by, texts)
		}
		f.Known = known
		verdict, by, effects := o.decide(all, f)
		got := list.Decide(f, &p)
		if got.Verdict != verdict || got.Name() != by || !slices.Equal(effects, effectNames(p.Effects)) {
			t.Fatalf("%v by %s %v, want %v by %s %v\n%+v\n%v", got.Verdict, got.Name(),
				effectNames(p.Effects), verdict, by, effects, f, texts)
		}
		// What is asked once more goes on to the same end.
		if got != list.Decide(f, &again) {
			t.Fatalf("asked again: not %s\n%v", got.Name(), texts)
		}
		compareRules(t, o, program, all, f)
	}
}

// foldAs folds the rules of a pod to a list with or without an index, however long it is.
func foldAs(program *Program, pod *Pod, indexed bool) *List {
	program.lists = make(map[string]*List)
	program.indexFrom, program.groupFrom = 1<<20, 1
	if indexed {
		program.indexFrom = 1
	}
	return program.Fold(pod)
}

// compareRules compares the answers of all rules, asked or not.
func compareRules(t *testing.T, o *oracle, program *Program, all []*randomSet, f *Flow) {
	t.Helper()
	vars := o.variables(f)
	for _, set := range program.Sets {
		i := slices.IndexFunc(all, func(s *randomSet) bool { return s.name == set.Name })
		for j, rule := range set.Rules {
			if got, want := answerOf(rule, f), o.ask(all[i].rules[j], vars); got != want {
				t.Fatalf("%s is %v, want %v\n%+v", all[i].rules[j].when, got, want, f)
			}
		}
	}
}

func effectNames(effects []Effect) (names []string) {
	for _, e := range effects {
		names = append(names, e.Name())
	}
	return names
}
