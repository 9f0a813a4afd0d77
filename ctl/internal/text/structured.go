// SPDX-License-Identifier: Apache-2.0

package text

import (
	"bytes"
	"encoding/json"
	"io"

	"sigs.k8s.io/yaml"

	"github.com/nsqueue/nsqueue/internal/printable"
)

// writeJSON prints JSON. It escapes control characters that the encoder leaves as
// they are.
func writeJSON(w io.Writer, v any, indent string) error {
	b, err := encodeJSON(v, indent)
	if err == nil {
		_, err = w.Write(printable.JSON(b))
	}
	return err
}

func encodeJSON(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// writeYAML prints YAML. If there are characters that the library cannot write, or
// that a terminal would execute, it prints YAML in the style of JSON, which escapes
// them.
func writeYAML(w io.Writer, v any) error {
	b, err := yaml.Marshal(v)
	if err != nil || printable.Text(string(b)) != string(b) {
		if b, err = encodeJSON(v, "  "); err == nil {
			b = printable.YAML(b)
		}
	}
	if err == nil {
		_, err = w.Write(b)
	}
	return err
}
