// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"
)

// Names of functions that are not CEL's own, and of what tells their forms apart.
const (
	domainFunction  = "domain"
	containsDomain  = "domains_contains_string"
	containsAddress = "addresses_contains_ip"
	domainOfString  = "string_to_domain"
	domainMatches   = "domain_matches_string"

	maxExpression = 64 << 10 // characters
)

func domainsType() *cel.Type   { return cel.OpaqueType("nsqueue.Domains") }
func addressesType() *cel.Type { return cel.OpaqueType("nsqueue.Addresses") }
func domainType() *cel.Type    { return cel.OpaqueType("nsqueue.Domain") }

// environment returns what expressions are checked against: the variables that all sets
// have, and the functions. The checker knows all of CEL's functions, so that it can tell
// what is wrong with a call; the back end has those that rules admit. Bind gives the
// functions that are not CEL's own an implementation, for an evaluator of CEL.
func environment(bind func(overload string) cel.OverloadOpt) (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.StdLib(), cel.ClearMacros(), cel.Macros(cel.AllMacro, cel.ExistsMacro),
		cel.HomogeneousAggregateLiterals(), cel.ParserExpressionSizeLimit(maxExpression),
		ext.Network(),
	}
	for _, v := range Variables() {
		options = append(options, cel.Variable(v.Name, v.celType()))
	}
	form := func(member bool, id string, result *cel.Type, args ...*cel.Type) cel.FunctionOpt {
		var more []cel.OverloadOpt
		if bind != nil {
			more = append(more, bind(id))
		}
		if member {
			return cel.MemberOverload(id, args, result, more...)
		}
		return cel.Overload(id, args, result, more...)
	}
	options = append(options,
		cel.Function("contains",
			form(true, containsDomain, cel.BoolType, domainsType(), cel.StringType),
			form(true, containsAddress, cel.BoolType, addressesType(), ext.IPType)),
		cel.Function(domainFunction, form(false, domainOfString, domainType(), cel.StringType)),
		cel.Function("matches",
			form(true, domainMatches, cel.BoolType, domainType(), cel.StringType)))
	return cel.NewCustomEnv(options...)
}

// setVariables returns the declarations of the sets of a document.
func (d *document) setVariables() (list []cel.EnvOption) {
	for _, set := range d.sets {
		t := domainsType()
		if set.prefixes != nil {
			t = addressesType()
		}
		list = append(list, cel.Variable("sets."+set.name, t))
	}
	return list
}
