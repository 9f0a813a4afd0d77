// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
)

// comments are those of a package, each as one line.
type comments struct {
	// fields are those of structs, by "Struct.Field".
	fields map[string]string
	// constants by their names.
	constants map[string]string
}

// readComments reads those of a directory's package.
func readComments(dir string) (comments, error) {
	c := comments{fields: map[string]string{}, constants: map[string]string{}}
	paths, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil {
		return c, err
	}
	for _, path := range paths {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return c, fmt.Errorf("read comments: %w", err)
		}
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				c.read(g)
			}
		}
	}
	return c, nil
}

func (c comments) read(g *ast.GenDecl) {
	for _, spec := range g.Specs {
		switch s := spec.(type) {
		case *ast.ValueSpec:
			for _, name := range s.Names {
				c.constants[name.Name] = line(s.Doc)
			}
		case *ast.TypeSpec:
			t, ok := s.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, f := range t.Fields.List {
				for _, name := range f.Names {
					c.fields[s.Name.Name+"."+name.Name] = line(f.Doc)
				}
			}
		}
	}
}

// line returns a comment as it can stand in a table.
func line(doc *ast.CommentGroup) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(doc.Text()), " "), "|", `\|`)
}
