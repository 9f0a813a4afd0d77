// SPDX-License-Identifier: Apache-2.0

package proto

import "encoding/binary"

// Action is what a verdict does with a packet.
type Action uint8

// The actions. ActionNone leaves the packet to onFailure.
const (
	ActionNone         Action = 0
	ActionAccept       Action = 1
	ActionDrop         Action = 2
	ActionReject       Action = 3
	ActionSettleAccept Action = 4 // accept, and the rest of the flow, too
	ActionSettleDrop   Action = 5
	ActionSettleReject Action = 6 // reject, and drop the rest of the flow
	actions            Action = 7
)

// Verdict is one about a packet.
type Verdict struct {
	ID             uint32
	Action         Action
	Mark, MarkMask uint32
}

// Verdicts is a message VERDICTS that was read. It refers to the bytes of the message.
type Verdicts struct {
	Sequence uint32
	body     []byte
}

// ParseVerdicts reads VERDICTS.
func ParseVerdicts(b []byte) (Verdicts, error) {
	if t, err := TypeOf(b); err != nil || t != TypeVerdicts || len(b) < verdictsSize {
		return Verdicts{}, malformed("want VERDICTS")
	}
	count := int(binary.LittleEndian.Uint16(b[12:]))
	if count == 0 || count > MaxBatch || len(b) != verdictsSize+count*verdictSize {
		return Verdicts{}, malformed("VERDICTS about %d packets in %d bytes", count, len(b))
	}
	v := Verdicts{Sequence: binary.LittleEndian.Uint32(b[8:]), body: b[verdictsSize:]}
	for i := range count {
		if a := Action(v.body[i*verdictSize+4]); a >= actions {
			return Verdicts{}, malformed("a verdict has the action %d", a)
		}
	}
	return v, nil
}

// Len is how many there are.
func (v *Verdicts) Len() int { return len(v.body) / verdictSize }

// At returns one of them.
func (v *Verdicts) At(i int) Verdict {
	b := v.body[i*verdictSize:]
	return Verdict{
		ID: binary.LittleEndian.Uint32(b), Action: Action(b[4]),
		Mark: binary.LittleEndian.Uint32(b[8:]), MarkMask: binary.LittleEndian.Uint32(b[12:]),
	}
}

// AppendVerdicts appends VERDICTS.
func AppendVerdicts(b []byte, sequence uint32, verdicts []Verdict) []byte {
	b = begin(b[:0], TypeVerdicts)
	b = binary.LittleEndian.AppendUint32(b, sequence)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(verdicts)))
	b = append(b, 0, 0)
	for _, v := range verdicts {
		b = binary.LittleEndian.AppendUint32(b, v.ID)
		b = append(b, byte(v.Action), 0, 0, 0)
		b = binary.LittleEndian.AppendUint32(b, v.Mark)
		b = binary.LittleEndian.AppendUint32(b, v.MarkMask)
	}
	return finish(b)
}
