// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parseDir parses the files of a package, without tests.
func parseDir(dir string) (files []*ast.File, err error) {
	paths, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return nil, fmt.Errorf("read the source: %w", err)
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has no source", dir)
	}
	return files, nil
}

// documentField is a field of a mapping that the source reads.
type documentField struct {
	name   string
	needed bool
}

// documentFields finds calls as in mapping(n, "a rule", field{"name", true, …}) and
// returns the fields of each mapping.
func documentFields(dir string) (map[string][]documentField, error) {
	files, err := parseDir(dir)
	found := make(map[string][]documentField)
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || calls(call) != "mapping" || len(call.Args) < 3 {
				return true
			}
			part := literalText(call.Args[1])
			for _, arg := range call.Args[2:] {
				lit, ok := arg.(*ast.CompositeLit)
				if !ok || len(lit.Elts) < 2 {
					continue
				}
				needed, _ := lit.Elts[1].(*ast.Ident)
				found[part] = append(found[part], documentField{
					literalText(lit.Elts[0]), needed != nil && needed.Name == "true",
				})
			}
			return true
		})
	}
	return found, err
}

// calls returns the name of the method that is called.
func calls(call *ast.CallExpr) string {
	if s, ok := call.Fun.(*ast.SelectorExpr); ok {
		return s.Sel.Name
	}
	return ""
}

// literalText returns the text of a literal, or nothing.
func literalText(x ast.Expr) string {
	if lit, ok := x.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		if text, err := strconv.Unquote(lit.Value); err == nil {
			return text
		}
	}
	return ""
}

// objectFields finds the functions that write an object, between open("name") and
// end("name"), and returns the keys of each object. Those of the line itself have no name.
func objectFields(dir string) (map[string][]string, error) {
	files, err := parseDir(dir)
	found := make(map[string][]string)
	helpers := map[string]string{
		"head": "", "protocol": "", "ends": "", "reject": "verdict", "hidden": "alert.metadata",
		"metadata": "alert", "rcode": "dns",
	}
	for _, f := range files {
		for _, d := range f.Decls {
			function, ok := d.(*ast.FuncDecl)
			if !ok || function.Recv == nil {
				continue
			}
			w := objectWalk{found: found}
			if within, ok := helpers[function.Name.Name]; ok {
				w.found[within] = append(w.found[within], "")
				w.path = strings.Split(within, ".")
			}
			ast.Inspect(function.Body, w.visit)
		}
	}
	for name, keys := range found {
		keys = slices.DeleteFunc(unique(keys), func(k string) bool { return k == "" })
		found[name] = keys
	}
	return found, err
}

type objectWalk struct {
	path  []string
	found map[string][]string
}

func (w *objectWalk) visit(n ast.Node) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) == 0 {
		return true
	}
	name := literalText(call.Args[0])
	switch calls(call) {
	case "open":
		w.path = append(w.path, name)
	case "end":
		w.path = w.path[:max(0, len(w.path)-1)]
	case "key", "text", "number", "some", "word", "list", "texts", "numbered", "address":
		if name != "" {
			object := strings.Trim(strings.Join(w.path, "."), ".")
			w.found[object] = append(w.found[object], name)
		}
	}
	return true
}

func unique(list []string) (once []string) {
	for _, s := range list {
		if !slices.Contains(once, s) {
			once = append(once, s)
		}
	}
	return once
}

// constant returns the value of a constant that numbers and units of time make.
func constant(dir, name string) (value int64, err error) {
	files, err := parseDir(dir)
	if err != nil {
		return 0, err
	}
	err = fmt.Errorf("%s has no constant %s", dir, name)
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok {
				for i, id := range spec.Names {
					if id.Name == name && i < len(spec.Values) {
						value, err = evaluate(spec.Values[i])
					}
				}
			}
			return true
		})
	}
	return value, err
}

func evaluate(x ast.Expr) (int64, error) {
	switch x := x.(type) {
	case *ast.BasicLit:
		return strconv.ParseInt(x.Value, 0, 64)
	case *ast.SelectorExpr:
		units := map[string]time.Duration{
			"Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute,
			"Hour": time.Hour,
		}
		if unit, ok := units[x.Sel.Name]; ok {
			return int64(unit), nil
		}
	case *ast.BinaryExpr:
		a, err1 := evaluate(x.X)
		b, err2 := evaluate(x.Y)
		switch x.Op {
		case token.MUL:
			return a * b, errors.Join(err1, err2)
		case token.SHL:
			return a << b, errors.Join(err1, err2)
		}
	}
	return 0, fmt.Errorf("cannot tell the value of %T", x)
}
