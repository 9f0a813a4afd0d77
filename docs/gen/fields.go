// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/nsqueue/nsqueue/daemon/node"
)

// key is a field of a configuration.
type key struct {
	name, kind, value, accepts, doc string
	field                           reflect.Value
}

// fields returns those of a struct by their JSON names, and those of structs in
// it with the names of both.
func fields(docs comments, prefix string, v reflect.Value) (keys []key, err error) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		value := v.Field(i)
		if f.Type.Kind() == reflect.Pointer {
			value = reflect.New(f.Type.Elem()).Elem()
		}
		if value.Kind() == reflect.Struct {
			inner, err := fields(docs, prefix+name+".", value)
			if err != nil {
				return nil, err
			}
			keys = append(keys, inner...)
			continue
		}
		k := key{
			name: prefix + name, kind: kindOf(f.Type), value: literal(name, v.Field(i)),
			field: v.Field(i), doc: renamed(docs.fields[t.Name()+"."+f.Name], f.Name, name),
		}
		if k.doc == "" {
			return nil, fmt.Errorf("field %s of %s has no comment", f.Name, t)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// renamed returns a comment with the configuration's name in the place of the
// program's.
func renamed(doc, from, to string) string {
	if rest, ok := strings.CutPrefix(doc, from); ok {
		return code(to) + rest
	}
	return doc
}

func kindOf(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[node.Duration]():
		return "duration"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.String:
		return "text"
	case t.Kind() == reflect.Slice:
		return "list"
	case t.Kind() == reflect.Map:
		return "object"
	}
	return "number"
}

// literal returns the value as a file has it.
func literal(name string, v reflect.Value) string {
	switch {
	case v.Kind() == reflect.Bool:
	case v.IsZero(), v.Kind() == reflect.Slice && v.Len() == 0:
		if v.CanInt() || v.CanUint() {
			break
		}
		return "none"
	case v.Kind() == reflect.Slice:
		return code("[" + strings.Join(v.Interface().([]string), ", ") + "]")
	case strings.HasSuffix(name, "Mask"):
		return code(fmt.Sprintf("%#08x", v.Uint()))
	}
	return code(number(v))
}

// number returns a value in the words that a file has for it.
func number(v reflect.Value) string {
	if v.Type() == reflect.TypeFor[node.Duration]() {
		return short(time.Duration(v.Int()))
	}
	return fmt.Sprint(v.Interface())
}

// short is the duration without the smaller units that it has none of.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return strings.Replace(s, "µ", "u", 1)
}
