// SPDX-License-Identifier: Apache-2.0

package conflist

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/nsqueue/nsqueue/internal/cnipod"
)

// pluginType is the name of our plugin, and of its binary.
const pluginType = cnipod.PluginType

// encodeEntry returns the entry as JSON, indented unless unit is empty. It has no
// newline at its end. The entry always has the capability for pod annotations, so
// that a pod can ask for more.
func encodeEntry(e *cnipod.Entry, prefix, unit string) ([]byte, error) {
	v := *e
	v.Type = pluginType
	v.Capabilities = map[string]bool{cnipod.AnnotationsCapability: true}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if unit != "" {
		enc.SetIndent(prefix, unit)
	}
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode entry: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// isEntry reports whether a text is the entry, however it is formatted.
func isEntry(e *cnipod.Entry, raw []byte) (bool, error) {
	own, err := encodeEntry(e, "", "")
	if err != nil {
		return false, err
	}
	var a, b any
	if json.Unmarshal(own, &a) != nil || json.Unmarshal(raw, &b) != nil {
		return false, nil
	}
	return reflect.DeepEqual(a, b), nil
}
