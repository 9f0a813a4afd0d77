// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"fmt"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// An inspector that lets pods resolve names only through one server and marks
// what it lets pass.
func ExampleInspector() {
	onlyDNS := inspect.Func(func(p *inspect.Packet) inspect.Verdict {
		flow, ok := p.Flow()
		if !ok || flow.DestinationPort != 53 {
			return inspect.Verdict{Action: inspect.Drop}
		}
		return inspect.Verdict{Action: inspect.Accept, Mark: 1 << 24, MarkMask: 0xff << 24}
	})

	query := &inspect.Packet{Mark: 0x42, Payload: []byte{
		0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 244, 1, 2, 10, 96, 0, 10, // IPv4
		0xc0, 0x01, 0, 53, 0, 8, 0, 0, // UDP
	}}
	v := onlyDNS.Inspect(query)
	fmt.Printf("%s, mark %#08x\n", v.Action, v.ApplyMark(query.Mark, 0xff000000))
	// Output: accept, mark 0x01000042
}
