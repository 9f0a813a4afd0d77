// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/sets"
)

func bits(text string) (uint32, bool) {
	value, err := strconv.ParseUint(text, 0, 32)
	return uint32(value), err == nil
}

func (d *document) readSets(n *yaml.Node) {
	d.pairs(n, "sets", func(key, value *yaml.Node) {
		set := setDocument{name: d.identifier(key, "the name of a set"), node: value}
		d.mapping(value, "a set",
			field{"domains", false, func(n *yaml.Node) { set.addDomains(d, n) }},
			field{"cidrs", false, func(n *yaml.Node) { set.addPrefixes(d, n) }},
			field{"domainsFile", false, func(n *yaml.Node) {
				if d.text(n, "domainsFile") != "" {
					set.file = n
					set.names()
				}
			}})
		if (set.domains == nil) == (set.prefixes == nil) && value.Kind == yaml.MappingNode {
			d.errorf(key, "a set has either domains and domainsFile, or cidrs")
			return
		}
		d.sets = append(d.sets, set)
	})
}

func (s *setDocument) names() *sets.Domains {
	if s.domains == nil {
		s.domains = sets.NewDomains(0)
	}
	return s.domains
}

func (s *setDocument) addDomains(d *document, n *yaml.Node) {
	domains := s.names()
	d.list(n, "domains", func(one *yaml.Node) {
		if err := domains.Add(d.text(one, "a domain")); err != nil {
			d.errorf(one, "%v", err)
		}
	})
}

func (s *setDocument) addPrefixes(d *document, n *yaml.Node) {
	s.prefixes = new(sets.Prefixes)
	d.list(n, "cidrs", func(one *yaml.Node) {
		if err := s.prefixes.Add(d.text(one, "a network")); err != nil {
			d.errorf(one, "%v", err)
		}
	})
}

// sets completes the document's sets with what their files have.
func (s *scope) sets(read func(string) ([]byte, error)) {
	for i := range s.doc.sets {
		set := &s.doc.sets[i]
		data := set.readFile(s.doc, read)
		d := digestNode(set.node, data)
		if !s.sameNames(set, d) {
			set.addLines(s.doc, data)
		}
		s.digests["sets."+set.name] = d
		s.doc.set.sets = append(s.doc.set.sets, namedSet{set.name, set.domains, set.prefixes, d})
	}
}

// readFile reads the file that a set takes its names from.
func (s *setDocument) readFile(d *document, read func(string) ([]byte, error)) []byte {
	if s.file == nil {
		return nil
	}
	if read == nil {
		d.errorf(s.file, "no files with names can be read here: list them in domains")
		return nil
	}
	data, err := read(s.file.Value)
	if err != nil {
		d.errorf(s.file, "%v", err)
		return nil
	}
	return data
}

func (s *setDocument) addLines(d *document, data []byte) {
	if s.file == nil {
		return
	}
	for _, wrong := range s.domains.AddLines(string(data)) {
		*d.errs = append(*d.errs, Error{
			File: s.file.Value, Line: wrong.Line, Column: 1, Text: wrong.Err.Error(),
		})
	}
}
