// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"reflect"
	"strings"
	"text/template"

	"github.com/nsqueue/nsqueue/daemon/node"
	"github.com/nsqueue/nsqueue/internal/cnipod"
)

// prose is the page without its tables.
//
//go:embed configuration.md.tmpl
var prose string

const cnipodDir = "internal/cnipod"

// render returns the page.
func render() ([]byte, error) {
	entry, err := entryTable()
	if err != nil {
		return nil, err
	}
	annotations, err := annotationTable()
	if err != nil {
		return nil, err
	}
	keys, err := daemonKeys()
	if err != nil {
		return nil, err
	}
	inspectors, err := inspectorTable()
	if err != nil {
		return nil, err
	}
	daemon, err := flagTable(keys)
	if err != nil {
		return nil, err
	}
	supervisor, err := flagTable(nil, "supervise")
	if err != nil {
		return nil, err
	}
	t, err := template.New(page).Parse(prose)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, map[string]string{
		"APIVersion": node.APIVersion, "Kind": node.ConfigKind,
		"Entry": entry, "Annotations": annotations, "Keys": keyTable(keys),
		"InspectorKeys": inspectors,
		"Flags":         daemon, "SuperviseFlags": supervisor,
	})
	return b.Bytes(), err
}

func entryTable() (string, error) {
	return fieldTable(cnipodDir, "field", cnipod.DefaultEntry())
}

// fieldTable has the fields of a struct of a package, with its values as the defaults.
func fieldTable(dir, what string, defaults any) (string, error) {
	docs, err := readComments(dir)
	if err != nil {
		return "", err
	}
	keys, err := fields(docs, "", reflect.ValueOf(defaults))
	if err != nil {
		return "", err
	}
	rows := [][]string{{what, "type", "default", "meaning"}}
	for _, k := range keys {
		rows = append(rows, []string{code(k.name), k.kind, k.value, k.doc})
	}
	return table(rows), nil
}

func annotationTable() (string, error) {
	docs, err := readComments(cnipodDir)
	if err != nil {
		return "", err
	}
	rows := [][]string{{"annotation", "meaning"}}
	for _, a := range []struct{ constant, name string }{
		{"InspectName", cnipod.InspectName}, {"PolicyName", cnipod.PolicyName},
	} {
		doc := docs.constants[a.constant]
		if doc == "" {
			return "", fmt.Errorf("constant %s has no comment", a.constant)
		}
		name := cnipod.AnnotationPrefix + a.name
		rows = append(rows, []string{code(name), renamed(doc, a.constant, name)})
	}
	return table(rows), nil
}

// daemonKeys returns the keys of the daemon's configuration file.
func daemonKeys() ([]key, error) {
	docs, err := readComments("daemon/node")
	if err != nil {
		return nil, err
	}
	config := node.DefaultConfig()
	keys, err := fields(docs, "", reflect.ValueOf(&config).Elem())
	if err != nil {
		return nil, err
	}
	for i := range keys {
		keys[i].accepts = accepted(keys[i].field, config.Validate)
	}
	return keys, nil
}

// inspectorTable has the keys of an element of the list inspectors.
func inspectorTable() (string, error) {
	return fieldTable("daemon/node", "key", node.DefaultInspector())
}

func keyTable(keys []key) string {
	rows := [][]string{{"key", "type", "default", "accepted", "meaning"}}
	for _, k := range keys {
		rows = append(rows, []string{code(k.name), k.kind, k.value, k.accepts, k.doc})
	}
	return table(rows)
}

// table returns rows, of which the first is the head.
func table(rows [][]string) string {
	var b strings.Builder
	for i, row := range rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(&b, "|%s\n", strings.Repeat("--|", len(row)))
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func code(s string) string { return "`" + s + "`" }
