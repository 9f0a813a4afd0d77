// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"

	"go.yaml.in/yaml/v3"
)

// digest stands for what was written: equal ones for equal rules, whatever the comments
// and the layout of their files.
type digest [sha256.Size]byte

// digestOf returns what stands for what was written in a node and for what it uses.
func (s *scope) digestOf(n *yaml.Node, used []string) digest {
	parts := make([][]byte, 0, 2*len(used))
	for _, name := range used {
		d := s.digests[name]
		parts = append(parts, []byte(name), d[:])
	}
	return digestNode(n, parts...)
}

// digest stands for all that a set does but for its rules.
func (s *Set) digest() []byte {
	return fmt.Appendf(nil, "%s %s %t %t %t\n",
		s.Name, s.Default, s.Audit, s.Hold, s.AcceptMidstream)
}

// digestNode returns the digest of a node and of more bytes.
func digestNode(n *yaml.Node, more ...[]byte) digest {
	h := sha256.New()
	writeNode(h, n)
	for _, data := range more {
		writeText(h, string(data))
	}
	return digest(h.Sum(nil))
}

func writeNode(h hash.Hash, n *yaml.Node) {
	if n == nil {
		writeText(h, "")
		return
	}
	writeText(h, fmt.Sprintf("%d %s %d %s", n.Kind, n.Tag, len(n.Content), n.Value))
	for _, child := range n.Content {
		writeNode(h, child)
	}
}

// writeText writes a text so that it ends where it ends.
func writeText(h io.Writer, text string) {
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(len(text)))
	_, _ = h.Write(size[:])
	_, _ = io.WriteString(h, text)
}
