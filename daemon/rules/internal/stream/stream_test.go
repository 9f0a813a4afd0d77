// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/budget"
)

// Sequence numbers count from near the end of their range, so that they wrap.
const isn = 0xffffffff - 5

func newMemory() *Memory {
	return &Memory{Pool: new(Pool), Account: budget.New(1<<20, 0, nil)}
}

// connected returns a stream whose SYN is answered.
func connected(m *Memory, limit int) *Stream {
	s := new(Stream)
	s.Init(limit)
	s.Push(&Segment{Seq: isn, Flags: SYN}, m)
	s.Acknowledge(ackOf(SYN|ACK, 0), m)
	return s
}

// at returns a segment whose first byte has the offset.
func at(offset int, payload string, flags uint8) *Segment {
	return &Segment{
		Seq: isn + 1 + uint32(offset), Flags: flags | ACK, Payload: []byte(payload),
	}
}

// synAt returns the SYN of a stream that would begin at the offset.
func synAt(offset int, payload string, flags uint8) *Segment {
	return &Segment{Seq: isn + uint32(offset), Flags: SYN | flags, Payload: []byte(payload)}
}

func ackOf(flags uint8, offset int) *Segment {
	return &Segment{Flags: flags, Ack: isn + 1 + uint32(offset)}
}

// step is a segment, and what the stream says of it.
type step struct {
	segment *Segment
	want    Result
}

// grew is the result of a segment after which there are more bytes.
func grew() Result { return Result{Grew: true} }

func status(s Status) Result { return Result{Status: s} }

func TestPush(t *testing.T) {
	full := strings.Repeat("x", 100)
	for _, tc := range []struct {
		name  string
		steps []step
		bytes string
	}{
		{"in order", []step{{at(0, "a", 0), grew()}, {at(1, "bc", 0), grew()}}, "abc"},
		{"bare acknowledgements", []step{{at(7, "", 0), Result{}}, {at(-99, "", 0), Result{}}}, ""},
		{"out of order", []step{{at(4, "ef", 0), Result{}}, {at(2, "cd", 0), Result{}}, {at(0, "ab", 0), grew()}}, "abcdef"},
		{"sent again", []step{{at(0, "abcd", 0), grew()}, {at(0, "ab", 0), Result{}}, {at(2, "cdef", 0), grew()}}, "abcdef"},
		{"sent again with other bytes", []step{{at(0, "abcd", 0), grew()}, {at(0, "abXd", 0), status(Conflict)}}, "abcd"},
		{"overlap in order with other bytes", []step{{at(0, "abcd", 0), grew()}, {at(2, "cXef", 0), status(Conflict)}, {at(4, "ef", 0), grew()}}, "abcdef"},
		{"overlap out of order with other bytes", []step{{at(4, "efgh", 0), Result{}}, {at(2, "cdXf", 0), status(Conflict)}, {at(0, "abcdef", 0), grew()}}, "abcdefgh"},
		{"gap filled with other bytes", []step{{at(2, "cd", 0), Result{}}, {at(0, "abcX", 0), status(Conflict)}}, ""},
		{"before the start", []step{{at(-2, "ab", 0), status(Outside)}, {at(-1, "xab", 0), status(Outside)}, {at(-1<<20, "ab", 0), status(Outside)}}, ""},
		{"far ahead", []step{{at(100, "a", 0), status(Outside)}, {at(1<<20, "a", 0), status(Outside)}}, ""},
		{"keep-alive before any byte", []step{{at(-1, "\x00", 0), Result{}}, {at(0, "a", 0), grew()}}, "a"},
		{"keep-alive without a byte", []step{{at(0, "a", 0), grew()}, {at(0, "", 0), Result{}}}, "a"},
		{"keep-alive before it is confirmed", []step{{at(0, "ab", 0), grew()}, {at(1, "\x00", 0), status(Conflict)}}, "ab"},
		{"zero window probe", []step{{at(0, "a", 0), grew()}, {at(1, "b", 0), grew()}, {at(1, "bc", 0), grew()}}, "abc"},
		{"FIN", []step{{at(0, "a", FIN), Result{Grew: true, Ended: true}}, {at(1, "b", 0), status(Conflict)}, {at(0, "a", FIN), Result{Ended: true}}}, "a"},
		{"FIN first", []step{{at(2, "", FIN), Result{}}, {at(0, "abc", 0), status(Conflict)}, {at(0, "ab", 0), Result{Grew: true, Ended: true}}}, "ab"},
		{"FIN inside", []step{{at(0, "abc", 0), grew()}, {at(1, "", FIN), status(Conflict)}, {at(3, "d", 0), grew()}}, "abcd"},
		{"FIN inside a later piece", []step{{at(5, "f", 0), Result{}}, {at(3, "", FIN), status(Conflict)}}, ""},
		{"two ends", []step{{at(5, "", FIN), Result{}}, {at(4, "", FIN), status(Conflict)}}, ""},
		{"RST", []step{{at(0, "a", 0), grew()}, {at(1, "", RST), Result{Ended: true}}, {at(1, "b", 0), grew()}}, "ab"},
		{"RST that is not believed", []step{{at(9, "", RST), Result{}}, {at(0, "a", 0), grew()}}, "a"},
		{"urgent bytes", []step{{at(0, "a", URG), status(Malformed)}, {at(0, "", URG), status(Malformed)}}, ""},
		{"SYN and FIN", []step{{at(-1, "", SYN|FIN), status(Malformed)}}, ""},
		{"limit", []step{{at(0, full[:99], 0), grew()}, {at(99, "xyz", 0), Result{Status: Limit, Grew: true}}, {at(101, "z", 0), status(Limit)}}, full},
		{"limit behind a hole", []step{{at(98, "xxx", 0), Result{}}, {at(0, full[:98], 0), Result{Status: Limit, Grew: true}}}, full},
		{"ends at the limit", []step{{at(0, full, FIN), Result{Grew: true, Ended: true}}}, full},
		{"not wholly copied", []step{{&Segment{Seq: isn + 1, Payload: []byte("ab"), Missing: 3}, Result{Status: Truncated, Grew: true}}}, "ab"},
		{"nothing copied", []step{{&Segment{Seq: isn + 1, Missing: 3}, status(Truncated)}}, ""},
		{"SYN sent again", []step{{at(0, "ab", 0), grew()}, {&Segment{Seq: isn, Flags: SYN}, Result{}}, {at(2, "c", 0), grew()}}, "abc"},
		{"SYN that gets no answer", []step{{at(0, "ab", 0), grew()}, {synAt(50, "", 0), Result{}}, {at(2, "c", 0), grew()}}, "abc"},
		{"SYN with bytes that gets no answer", []step{{synAt(50, "x", 0), status(Outside)}, {at(0, "a", 0), grew()}}, "a"},
		{"SYN that cannot be told from bytes", []step{{at(0, "abcde", 0), grew()}, {synAt(5, "", 0), status(Outside)}, {synAt(6, "", 0), Result{}}}, "abcde"},
		{"too many SYNs", []step{{synAt(50, "", 0), Result{}}, {synAt(60, "", 0), Result{}}, {synAt(70, "", 0), Result{}}, {synAt(80, "", 0), Result{}}, {synAt(90, "", 0), status(Outside)}, {synAt(60, "", 0), Result{}}}, ""},
		{"SYN gets bytes after another SYN", []step{{synAt(5, "", 0), Result{}}, {synAt(0, "abcde", 0), status(Outside)}, {synAt(0, "", 0), Result{}}}, ""},
		{"another SYN and ACK", []step{{synAt(50, "", ACK), status(Outside)}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMemory()
			s := connected(m, 100)
			for i, step := range tc.steps {
				if got := s.Push(step.segment, m); got != step.want {
					t.Errorf("step %d: %+v, want %+v", i, got, step.want)
				}
			}
			if got := string(s.Bytes()); got != tc.bytes {
				t.Errorf("%q, want %q", got, tc.bytes)
			}
			s.Release(m)
			if m.Account.Used() != 0 {
				t.Error(m.Account.Used(), "bytes are not given back")
			}
		})
	}
}

func TestBytesInTheSYN(t *testing.T) {
	m := newMemory()
	s := new(Stream)
	s.Init(100)
	syn := &Segment{Seq: isn, Flags: SYN, Payload: []byte("abc")}
	if r := s.Push(syn, m); r != grew() || string(s.Bytes()) != "abc" {
		t.Fatal(r)
	}
	if r := s.Push(at(3, "d", 0), m); r.Status != Unconfirmed {
		t.Error(r)
	}
	// The other side has not taken the bytes: they come again.
	s.Acknowledge(ackOf(SYN|ACK, 0), m)
	if r := s.Push(at(0, "abX", 0), m); r.Status != Conflict {
		t.Error(r)
	}
	if r := s.Push(at(0, "abcd", 0), m); r != grew() {
		t.Error(r)
	}
}

func TestMidstream(t *testing.T) {
	s := new(Stream)
	s.Init(100)
	if r := s.Push(at(0, "a", 0), newMemory()); r.Status != Midstream || s.Started() {
		t.Error(r)
	}
}

// A client may claim to begin anew, so that its next bytes seem to be elsewhere.
func TestOnlyAnAnsweredSYNRestarts(t *testing.T) {
	m := newMemory()
	s := connected(m, 100)
	s.Push(at(0, "ab", 0), m)
	s.Push(synAt(1000, "", 0), m)
	if a := s.Acknowledge(ackOf(ACK, 2), m); a != All || string(s.Bytes()) != "ab" {
		t.Fatal(a)
	}
	if a := s.Acknowledge(ackOf(SYN|ACK, 1000), m); a != Restarted || len(s.Bytes()) != 0 {
		t.Fatal(a)
	}
	if r := s.Push(at(1000, "new", 0), m); r != grew() || string(s.Bytes()) != "new" {
		t.Error(r)
	}
}

// The sender may know which of its SYNs is answered, and send others besides.
func TestAnyLaterSYNMayBeAnswered(t *testing.T) {
	for _, answered := range []int{50, 60, 70} {
		m := newMemory()
		s := new(Stream)
		s.Init(100)
		for _, offset := range []int{0, 50, 60, 70} {
			if r := s.Push(synAt(offset, "", 0), m); r != (Result{}) {
				t.Fatal(offset, r)
			}
		}
		if a := s.Acknowledge(ackOf(SYN|ACK, answered), m); a != Restarted {
			t.Fatal(answered, a)
		}
		if r := s.Push(at(answered, "x", 0), m); r != grew() {
			t.Error(answered, r)
		}
	}
}

// An honest client whose SYNs are refused may try for as long as it likes.
func TestRefusedSYNsAreForgotten(t *testing.T) {
	m := newMemory()
	s := new(Stream)
	s.Init(100)
	for offset := range 20 {
		if r := s.Push(synAt(offset, "", 0), m); r != (Result{}) {
			t.Fatal(offset, r)
		}
		s.Acknowledge(ackOf(RST|ACK, offset), m)
	}
}

// An urgent byte is taken out of what the receiver reads.
func TestUrgentBytesAfterTheDecision(t *testing.T) {
	m := newMemory()
	s := connected(m, 100)
	s.Push(at(0, "not.blockedX.example", 0), m)
	s.Decide(m)
	for _, g := range []*Segment{at(0, "not.blockedX.example", URG), at(20, "", URG)} {
		if r := s.Push(g, m); r.Status != Outside {
			t.Errorf("%q: %+v", g.Payload, r)
		}
	}
	s.Acknowledge(ackOf(ACK, 20), m)
	if r := s.Push(at(20, "x", URG), m); r != (Result{}) {
		t.Error("when the receiver has all:", r)
	}
}

// Both sides may send a SYN before either answers.
func TestSimultaneousOpen(t *testing.T) {
	m := newMemory()
	s := new(Stream)
	s.Init(100)
	s.Push(&Segment{Seq: isn, Flags: SYN}, m)
	if r := s.Push(&Segment{Seq: isn, Flags: SYN | ACK, Ack: 8}, m); r != (Result{}) {
		t.Error(r)
	}
	s.Acknowledge(&Segment{Flags: SYN}, m)
	s.Acknowledge(ackOf(SYN|ACK, 0), m)
	if r := s.Push(at(0, "a", 0), m); r != grew() {
		t.Error(r)
	}
}

func TestAcknowledge(t *testing.T) {
	m := newMemory()
	s := connected(m, 100)
	s.Push(at(0, "abcd", 0), m)
	s.Push(at(6, "gh", 0), m)
	for _, tc := range []struct {
		segment *Segment
		want    Acknowledged
	}{
		{ackOf(0, 4), NotAll},
		{ackOf(ACK|RST, 4), NotAll},
		{ackOf(ACK, -1), NotAll},
		{ackOf(ACK, 3), NotAll},
		{ackOf(ACK, 4), All},
		{ackOf(ACK, 5), Gap},
		{ackOf(ACK, 8), Gap},
	} {
		if got := s.Acknowledge(tc.segment, m); got != tc.want {
			t.Errorf("%+v: %v, want %v", tc.segment, got, tc.want)
		}
	}
	if r := s.Push(at(3, "\x00", 0), m); r != (Result{}) {
		t.Error("keep-alive:", r)
	}
	if r := s.Push(at(2, "cX", 0), m); r.Status != Conflict {
		t.Error(r)
	}
}

// What was accepted cannot be changed behind the decision, however it is cut.
func TestOtherBytesAfterTheDecision(t *testing.T) {
	m := newMemory()
	s := connected(m, 1<<14)
	s.Push(at(5000, "kept behind a hole", 0), m)
	s.Push(at(0, "hello allowed.example", 0), m)
	s.Decide(m)
	if m.Account.Used() != smallest {
		t.Error(m.Account.Used(), "bytes are kept")
	}
	for _, tc := range []struct {
		segment *Segment
		want    Status
	}{
		{at(0, "hello allowed.example and more", 0), Accepted},
		{at(6, "allowed", 0), Accepted},
		{at(6, "blocked", 0), Conflict},
		{at(0, "hello blocked.example and more", 0), Conflict},
		{at(-3, "xyzX", 0), Conflict},
		{at(21, "anything", 0), Accepted},
		{at(1<<20, "anything", FIN), Accepted},
	} {
		if r := s.Push(tc.segment, m); r.Status != tc.want {
			t.Errorf("%q: %v, want %v", tc.segment.Payload, r.Status, tc.want)
		}
	}
	if a := s.Acknowledge(ackOf(ACK, 30), m); a != All {
		t.Error(a)
	}
}

func TestTooManyPieces(t *testing.T) {
	m := newMemory()
	s := connected(m, 1000)
	for i := range maxSpans {
		if r := s.Push(at(2+2*i, "x", 0), m); r != (Result{}) {
			t.Fatal(i, r)
		}
	}
	if r := s.Push(at(900, "x", 0), m); r.Status != Limit {
		t.Error(r)
	}
	if r := s.Push(at(3, "x", 0), m); r != (Result{}) {
		t.Error("a piece that joins two:", r)
	}
}

func TestNoMemory(t *testing.T) {
	m := newMemory()
	m.Account = budget.New(smallest+2*smallest, 0, nil)
	s := connected(m, largest)
	big := at(0, strings.Repeat("x", smallest+1), 0)
	other := connected(m, largest)
	other.Push(at(0, "x", 0), m)
	s.Push(at(0, "x", 0), m)
	if r := s.Push(big, m); r.Status != NoMemory || len(s.Bytes()) != 1 {
		t.Error(r)
	}
	other.Release(m)
	s.Release(m)
	if m.Account.Used() != 0 {
		t.Error(m.Account.Used())
	}
	s = connected(m, largest)
	if r := s.Push(big, m); r != grew() {
		t.Error("with memory again:", r)
	}
}

// However a stream is cut, mixed and doubled, its bytes are what was sent, or less.
func TestAnyOrderYieldsTheStream(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		sent := randomBytes(rnd, 1+rnd.IntN(9000))
		m := newMemory()
		s := connected(m, 4+rnd.IntN(largest))
		complete := deliver(t, s, m, sent, shuffled(rnd, len(sent)))
		want := min(len(sent), int(s.limit))
		if got := s.Bytes(); complete && len(got) != want || !bytes.HasPrefix(sent, got) {
			t.Fatalf("seed %d: %d of %d bytes", seed, len(got), len(sent))
		}
		anyChangeConflicts(t, rnd, s, m, sent)
	}
}

// deliver pushes pieces, and those that were refused once more. It reports whether
// the stream took them all.
func deliver(t *testing.T, s *Stream, m *Memory, sent []byte, pieces []span) bool {
	t.Helper()
	for range 2 {
		for _, p := range pieces {
			r := s.Push(at(int(p.from), string(sent[p.from:p.to]), 0), m)
			if r.Status == Limit && s.next < s.limit {
				return false
			}
			if r.Status == Conflict || !bytes.HasPrefix(sent, s.Bytes()) {
				t.Fatal(r, p)
			}
		}
	}
	return int(s.limit) >= len(sent)
}

// shuffled cuts n bytes twice, each time in another way.
func shuffled(rnd *rand.Rand, n int) []span {
	var pieces []span
	for range 2 {
		for from := 0; from < n; {
			to := min(n, from+1+rnd.IntN(n/8+1))
			pieces = append(pieces, span{uint16(from), uint16(to)})
			from = to
		}
	}
	rnd.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
	return pieces
}

func anyChangeConflicts(t *testing.T, rnd *rand.Rand, s *Stream, m *Memory, sent []byte) {
	t.Helper()
	if s.next == 0 {
		return
	}
	changed := rnd.IntN(int(s.next))
	from := rnd.IntN(changed + 1)
	to := changed + 1 + rnd.IntN(len(sent)-changed)
	forged := bytes.Clone(sent[from:to])
	forged[changed-from] ^= byte(1 + rnd.IntN(255))
	before := bytes.Clone(s.Bytes())
	r := s.Push(at(from, string(forged), 0), m)
	if r.Status != Conflict || !bytes.Equal(before, s.Bytes()) {
		t.Fatalf("byte %d of %d changed in %d to %d: %+v", changed, len(sent), from, to, r)
	}
}

func randomBytes(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

func TestPushAllocatesNothing(t *testing.T) {
	m := newMemory()
	first, second := at(0, strings.Repeat("a", 1400), 0), at(1400, strings.Repeat("b", 1400), 0)
	s := connected(m, largest)
	run := func() {
		s.Release(m)
		s.Push(&Segment{Seq: isn, Flags: SYN}, m)
		s.Acknowledge(ackOf(SYN|ACK, 0), m)
		s.Push(second, m)
		s.Push(first, m)
	}
	run()
	if n := testing.AllocsPerRun(100, run); n != 0 || len(s.Bytes()) != 2800 {
		t.Error(n, "allocations", len(s.Bytes()))
	}
}

func TestParse(t *testing.T) {
	header := []byte{0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 6 << 4, SYN, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 'a'}
	g, ok := Parse(header, len(header)+7)
	if !ok || g.Seq != 3 || g.Ack != 4 || !g.Opens() || string(g.Payload) != "a" || g.Missing != 7 {
		t.Errorf("%+v %v", g, ok)
	}
	for n := range 24 {
		if _, ok := Parse(header[:n], n); ok {
			t.Error("a header of", n, "bytes")
		}
	}
	if g, ok := Parse(header, len(header)-1); !ok || len(g.Payload) != 0 || g.Missing != 0 {
		t.Errorf("bytes behind the packet: %+v %v", g, ok)
	}
	if _, ok := Parse(header, -1); ok {
		t.Error("a negative length")
	}
	header[12] = 4 << 4
	if _, ok := Parse(header, len(header)); ok {
		t.Error("a header that says it is too short")
	}
}

// FuzzPush reads segments from bytes: flags, offset, length, and where the payload is
// taken from. Whatever comes, the stream has a prefix that only grows.
func FuzzPush(f *testing.F) {
	f.Add([]byte{0, 0, 0, 9, 0, 0, 0, 9, 9, 0, 1, 0, 2, 9, 1})
	f.Add([]byte{SYN, 255, 255, 0, 0, 0, 0, 0, 5, 0, FIN, 0, 5, 0, 0, RST, 0, 5, 0, 0})
	f.Add([]byte{URG, 0, 0, 3, 0, 0, 3, 200, 9, 0, 0, 255, 240, 99, 1, 64, 0, 0, 4, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		m := newMemory()
		s := connected(m, 1000)
		var before []byte
		for ; len(in) >= 5; in = in[5:] {
			g := at(int(int16(uint16(in[1])<<8|uint16(in[2]))), string(in[5:][:min(int(in[3]), len(in)-5)]), in[0])
			g.Missing = int(in[4] & 1)
			s.Push(g, m)
			restarted := s.Acknowledge(&Segment{Flags: in[0], Ack: g.Seq}, m) == Restarted
			if !restarted && !bytes.HasPrefix(s.Bytes(), before) || int(s.next) > 1000 {
				t.Fatal("bytes changed")
			}
			before = bytes.Clone(s.Bytes())
		}
		s.Release(m)
		if m.Account.Used() != 0 {
			t.Fatal(m.Account.Used())
		}
	})
}

func BenchmarkPush(b *testing.B) {
	m := newMemory()
	hello := at(0, strings.Repeat("a", 517), 0)
	s := connected(m, largest)
	b.ReportAllocs()
	for b.Loop() {
		s.Release(m)
		s.Push(&Segment{Seq: isn, Flags: SYN}, m)
		s.Acknowledge(ackOf(SYN|ACK, 0), m)
		s.Push(hello, m)
	}
}
