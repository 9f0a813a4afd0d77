// SPDX-License-Identifier: Apache-2.0

package conflist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrInvalid is in the chain of errors about configurations that runtimes
// cannot read either. Such files are never touched.
var ErrInvalid = errors.New("invalid CNI configuration")

// span is a part of a text.
type span struct{ start, end int }

func (s span) of(text []byte) []byte { return text[s.start:s.end] }

// replace returns the text with another part in its place.
func (s span) replace(text, part []byte) []byte {
	return slices.Concat(text[:s.start], part, text[s.end:])
}

// element is one plugin's object in a list.
type element struct {
	span
	plugin string // its type
}

func (e element) isOurs() bool { return e.plugin == pluginType }

// list is what the text of a conflist says, and where it says it.
type list struct {
	// open is the offset of the bracket that opens the plugins, -1 if there are none.
	open    int
	plugins []element
}

// parseObject returns the members of the object that text is. As in encoding/json
// and in libcni, the last one of equal keys counts.
func parseObject(text []byte) (map[string]json.RawMessage, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if object == nil {
		return nil, fmt.Errorf("%w: want a JSON object, got null", ErrInvalid)
	}
	return object, nil
}

// parseList reads a conflist as libcni does.
func parseList(text []byte) (*list, error) {
	object, err := parseObject(text)
	if err != nil {
		return nil, err
	}
	l := &list{open: -1}
	if err := checkName(object); err != nil {
		return nil, err
	}
	plugins, ok := member(text, "plugins")
	if !ok {
		return l, nil
	}
	if text[plugins.start] != '[' {
		return nil, fmt.Errorf("%w: plugins is not a list", ErrInvalid)
	}
	l.open = plugins.start
	for _, s := range elements(text, plugins.start) {
		plugin, err := typeOf(s.of(text))
		if err != nil {
			return nil, fmt.Errorf("plugin %d: %w", len(l.plugins), err)
		}
		l.plugins = append(l.plugins, element{s, plugin})
	}
	return l, nil
}

func checkName(object map[string]json.RawMessage) error {
	raw, ok := object["name"]
	if !ok {
		return fmt.Errorf("%w: it has no name", ErrInvalid)
	}
	var name *string
	if err := json.Unmarshal(raw, &name); err != nil || name == nil {
		return fmt.Errorf("%w: its name is not a string", ErrInvalid)
	}
	return nil
}

// typeOf returns the type of a plugin the way that libcni finds it: through a
// map, and then into a field whose key may be written in any case.
func typeOf(raw []byte) (string, error) {
	var object map[string]any
	if err := json.Unmarshal(raw, &object); err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	again, err := json.Marshal(object)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var conf struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(again, &conf); err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if conf.Type == "" {
		return "", fmt.Errorf("%w: it has no type", ErrInvalid)
	}
	return conf.Type, nil
}

// hasEntry reports whether a text has an entry of nsqueue, however deep in it. A
// text that is not JSON is searched for the name.
func hasEntry(text []byte) bool {
	var v any
	if json.Unmarshal(text, &v) != nil {
		return bytes.Contains(text, []byte(`"`+pluginType+`"`))
	}
	return callsOurs(v)
}

func callsOurs(v any) bool {
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, callsOurs)
	case map[string]any:
		for key, value := range v {
			if strings.EqualFold(key, "type") && value == pluginType || callsOurs(value) {
				return true
			}
		}
	}
	return false
}

// The functions below walk over text that is known to be valid JSON.

// member returns where the last value with the key is, in the object that text is.
func member(text []byte, key string) (found span, ok bool) {
	i := skipSpace(text, skipSpace(text, 0)+1)
	for text[i] != '}' {
		end := skipValue(text, i)
		var k string
		isIt := json.Unmarshal(text[i:end], &k) == nil && k == key
		value := skipSpace(text, skipSpace(text, end)+1) // behind the colon
		end = skipValue(text, value)
		if isIt {
			found, ok = span{value, end}, true
		}
		if i = skipSpace(text, end); text[i] == ',' {
			i = skipSpace(text, i+1)
		}
	}
	return found, ok
}

// elements returns where the elements of the list that begins at i are.
func elements(text []byte, i int) []span {
	var spans []span
	i = skipSpace(text, i+1)
	for text[i] != ']' {
		end := skipValue(text, i)
		spans = append(spans, span{i, end})
		if i = skipSpace(text, end); text[i] == ',' {
			i = skipSpace(text, i+1)
		}
	}
	return spans
}

func skipSpace(text []byte, i int) int {
	for i < len(text) && strings.IndexByte(" \t\r\n", text[i]) >= 0 {
		i++
	}
	return i
}

// skipValue returns the end of the value that begins at i.
func skipValue(text []byte, i int) int {
	depth := 0
	for {
		switch text[i] {
		case '"':
			i = skipString(text, i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\t', '\r', '\n':
			i++
		default:
			for i < len(text) && strings.IndexByte(" \t\r\n,:{}[]\"", text[i]) < 0 {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
}

func skipString(text []byte, i int) int {
	for i++; text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i + 1
}
