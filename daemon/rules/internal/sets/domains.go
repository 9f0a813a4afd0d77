// SPDX-License-Identifier: Apache-2.0

// Package sets answers whether a name or an address is in a set. A set is built once
// and only read afterwards, so any number of goroutines may ask it.
//
// A domain set has names and patterns. `example.org` is that name alone. `*.example.org`
// is every name below it, however deep, and not example.org itself: a set that means both
// has both. A star stands nowhere else.
package sets

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// maxName is the length of the longest name in DNS, written without its final dot.
const maxName = 253

// maxLabels is how many parts between dots a text of that length has at most.
const maxLabels = maxName + 1

// Domains is a set of names.
type Domains struct {
	exact map[string]struct{}
	// below has what patterns have after their star.
	below map[string]struct{}
	// depths has a bit for each number of labels that an entry of below has.
	depths [maxLabels/64 + 1]uint64
}

// NewDomains makes an empty set that has room for size names.
func NewDomains(size int) *Domains {
	return &Domains{
		exact: make(map[string]struct{}, size), below: make(map[string]struct{}),
	}
}

// Add puts a name or a pattern into the set. It returns an error that says what would
// be right if the text is neither.
func (d *Domains) Add(text string) error {
	name := strings.ToLower(strings.TrimSuffix(text, "."))
	rest, pattern := strings.CutPrefix(name, "*.")
	if err := checkName(rest); err != nil {
		return fmt.Errorf("%q is no domain: %w", text, err)
	}
	if pattern {
		d.below[rest] = struct{}{}
		labels := strings.Count(rest, ".") + 1
		d.depths[labels/64] |= 1 << (labels % 64)
	} else {
		d.exact[name] = struct{}{}
	}
	return nil
}

// Len returns how many names and patterns the set has.
func (d *Domains) Len() int { return len(d.exact) + len(d.below) }

// Contains reports whether a name, or a pattern above it, is in the set. Letters
// count the same in upper and lower case, and a final dot does not count.
func (d *Domains) Contains(name string) bool {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > maxName {
		return false
	}
	if !hasUpper(name) {
		return d.contains(name)
	}
	var lower [maxName]byte
	for i := range len(name) {
		lower[i] = toLower(name[i])
	}
	return d.containsBytes(lower[:len(name)])
}

func (d *Domains) contains(name string) bool {
	if _, ok := d.exact[name]; ok {
		return true
	}
	if len(d.below) == 0 {
		return false
	}
	labels := 0
	for i := len(name) - 1; i > 0; i-- {
		if name[i] != '.' {
			continue
		}
		if labels++; d.depths[labels/64]&(1<<(labels%64)) == 0 {
			continue
		}
		if _, ok := d.below[name[i+1:]]; ok {
			return true
		}
	}
	return false
}

// containsBytes is contains without a string for the name.
func (d *Domains) containsBytes(name []byte) bool {
	if _, ok := d.exact[string(name)]; ok {
		return true
	}
	for i := 1; i < len(name); i++ {
		if name[i] != '.' {
			continue
		}
		if _, ok := d.below[string(name[i+1:])]; ok {
			return true
		}
	}
	return false
}

func hasUpper(name string) bool {
	for i := range len(name) {
		if name[i] >= 'A' && name[i] <= 'Z' {
			return true
		}
	}
	return false
}

func toLower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// checkName says what is wrong with a lower-case name without a final dot.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("it is empty")
	case len(name) > maxName:
		return fmt.Errorf("it is longer than %d characters", maxName)
	case strings.Contains(name, "*"):
		return errors.New("a star stands only at the start, as in *.example.org")
	}
	if isAddress(name) {
		return errors.New("it is an address, which belongs into a set of cidrs")
	}
	for label := range strings.SplitSeq(name, ".") {
		if err := checkLabel(label); err != nil {
			return err
		}
	}
	return nil
}

// isAddress reports whether a text is an address. Few names need the parser.
func isAddress(text string) bool {
	last := text[len(text)-1]
	if (last < '0' || last > '9') && !strings.Contains(text, ":") {
		return false
	}
	_, err := netip.ParseAddr(text)
	return err == nil
}

func checkLabel(label string) error {
	if label == "" {
		return errors.New("a part between two dots is empty")
	}
	if len(label) > 63 {
		return errors.New("a part is longer than 63 characters")
	}
	for _, r := range label {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
		case r > 127:
			return errors.New("write a name with other letters in its form xn--")
		default:
			return fmt.Errorf("it has %q; letters, digits, - and _ are allowed", r)
		}
	}
	return nil
}
