// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// fromHex skips everything behind '#' on a line.
func fromHex(tb testing.TB, text string) []byte {
	tb.Helper()
	var digits strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// littleEndian fails where the goldens, which are in host order, do not apply.
func littleEndian(t *testing.T) {
	t.Helper()
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Fatal("goldens were recorded on a little-endian host")
	}
}

func TestBindMessage(t *testing.T) {
	littleEndian(t)
	got := appendBind(nil, 7, &Config{
		Number: 80, Length: 4096, CopyRange: 0xfffb, FailOpen: true,
	})
	want := fromHex(t, `
		40000000 0203 0500 07000000 00000000  # length, CONFIG, REQUEST|ACK, seq, port
		00 00 0050                            # family, version, queue 80
		0800 0100 01 00 0000                  # CMD: bind
		0900 0200 0000fffb 02 000000          # PARAMS: copy range, copy packet, padding
		0800 0300 00001000                    # QUEUE_MAXLEN 4096
		0800 0400 0000000d                    # MASK: FAIL_OPEN|GSO|UID_GID
		0800 0500 00000005                    # FLAGS: FAIL_OPEN|GSO`)
	if diff := cmp.Diff(hex.Dump(want), hex.Dump(got)); diff != "" {
		t.Error(diff)
	}
}

func TestFlagsMessage(t *testing.T) {
	littleEndian(t)
	got := appendFlags(nil, &Config{Number: 80, SocketUID: true, Modifies: true})
	want := fromHex(t, `
		24000000 0203 0100 00000000 00000000 00000050
		0800 0400 0000000d                    # MASK: FAIL_OPEN|GSO|UID_GID
		0800 0500 00000008                    # FLAGS: UID_GID`)
	if diff := cmp.Diff(hex.Dump(want), hex.Dump(got)); diff != "" {
		t.Error(diff)
	}
}

func TestVerdictMessages(t *testing.T) {
	littleEndian(t)
	b := appendVerdict(nil, 80, 0x01020304, &rawVerdict{verdict: verdictAccept})
	b = appendVerdict(b, 80, 5, &rawVerdict{
		verdict: verdictRequeue | 81<<16, mark: 0xff000042, setMark: true,
	})
	b = appendVerdict(b, 80, 6, &rawVerdict{
		verdict: verdictAccept, priority: 0x81000006, setPriority: true, payload: []byte{0x45, 0},
	})
	b = appendBatchVerdict(b, 80, 9, verdictDrop)
	want := fromHex(t, `
		20000000 0103 0100 00000000 00000000 00000050
		0c00 0200 00000001 01020304           # accept
		28000000 0103 0100 00000000 00000000 00000050
		0c00 0200 00510003 00000005           # to queue 81
		0800 0300 ff000042                    # mark
		2e000000 0103 0100 00000000 00000000 00000050
		0c00 0200 00000001 00000006           # accept
		0800 1500 81000006                    # priority
		0600 0a00 4500 0000                   # payload, padding behind the message
		20000000 0303 0100 00000000 00000000 00000050
		0c00 0200 00000000 00000009           # drop up to 9`)
	if diff := cmp.Diff(hex.Dump(want), hex.Dump(b)); diff != "" {
		t.Error(diff)
	}
	longest := len(appendVerdict(nil, 0, 0, &rawVerdict{setMark: true, setPriority: true}))
	if longest > verdictLen {
		t.Errorf("a verdict takes %d bytes, more than verdictLen %d", longest, verdictLen)
	}
}

// packetBody is a packet message after its netlink header, as Linux 6.18 sends
// it: attributes, an unknown one among them, and the payload last, unpadded.
const packetBody = `
	02 00 0050                            # AF_INET, version, queue
	0b00 0100 0000002a 0800 03 00         # packet 42, IPv4, LOCAL_OUT, padding
	0800 0600 00000002                    # out device 2
	0800 0300 00000007                    # mark 7
	0800 1500 00000006                    # priority 6
	0800 ff00 01020304                    # unknown
	0800 1000 000003e8                    # user 1000
	0800 1100 000003e8                    # group 1000
	0800 0d00 00000bb8                    # whole length 3000
	0800 0e00 00000006                    # GSO, checksum not verified
	0900 0a00 4500000031                  # payload of 5 bytes`

func TestParse(t *testing.T) {
	var p inspect.Packet
	hasID, err := parse(fromHex(t, packetBody), &p)
	if !hasID || err != nil {
		t.Fatalf("parse: %t, %v", hasID, err)
	}
	want := inspect.Packet{
		ID: 42, Direction: inspect.Out, Mark: 7, Priority: 6, OutDev: 2,
		Payload: []byte{0x45, 0, 0, 0, 0x31}, Length: 3000,
		Checksum: inspect.ChecksumUnverified, Merged: true, UID: 1000,
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Error(diff)
	}
}

// skbInfoBody is the shortest packet message, with what the kernel knows of the
// packet; without the attribute it has nothing to say.
func skbInfoBody(tb testing.TB, info string) []byte {
	tb.Helper()
	if info != "" {
		info = "0800 0e00 " + info
	}
	return fromHex(tb, "02 00 0050 0b00 0100 0000002a 0800 01 00"+info+"0500 0a00 45")
}

func TestParseSkbInfo(t *testing.T) {
	for info, want := range map[string]inspect.Packet{
		"":         {Checksum: inspect.ChecksumTrusted},
		"00000001": {Checksum: inspect.ChecksumNotReady},
		"00000002": {Checksum: inspect.ChecksumTrusted, Merged: true},
		"00000003": {Checksum: inspect.ChecksumNotReady, Merged: true},
		"00000004": {Checksum: inspect.ChecksumUnverified},
		"00000005": {Checksum: inspect.ChecksumNotReady},
		"fffffff8": {Checksum: inspect.ChecksumTrusted},
		"fffffffe": {Checksum: inspect.ChecksumUnverified, Merged: true},
	} {
		want.ID, want.Direction, want.Payload, want.Length = 42, inspect.In, []byte{0x45}, 1
		want.UID = -1
		var p inspect.Packet
		if hasID, err := parse(skbInfoBody(t, info), &p); !hasID || err != nil {
			t.Errorf("%q: %t, %v", info, hasID, err)
		}
		if diff := cmp.Diff(want, p); diff != "" {
			t.Errorf("%q: %s", info, diff)
		}
	}
}

// userBody is the shortest message of a packet at a hook point, with its socket's user.
func userBody(tb testing.TB, hook, uid string) []byte {
	tb.Helper()
	if uid != "" {
		uid = "0800 1000 " + uid
	}
	return fromHex(tb, "02 00 0050 0b00 0100 0000002a 0800 "+hook+" 00"+uid+"0500 0a00 45")
}

// Only what goes out has a user, who may be root, or nobody that there is.
func TestParseUID(t *testing.T) {
	for _, tt := range []struct {
		hook, uid string
		want      int64
	}{
		{"03", "", -1},
		{"03", "00000000", 0},
		{"03", "000003e8", 1000},
		{"03", "b2d05e00", 3_000_000_000},
		{"03", "fffffffe", 1<<32 - 2},
		{"03", "ffffffff", -1},
		{"01", "000003e8", -1},
		{"02", "000003e8", -1},
		{"07", "000003e8", -1},
	} {
		p := inspect.Packet{UID: 7}
		if _, err := parse(userBody(t, tt.hook, tt.uid), &p); err != nil || p.UID != tt.want {
			t.Errorf("hook %s, user %q: %d, %v", tt.hook, tt.uid, p.UID, err)
		}
	}
}

// A message cut at any length is malformed, and from the ID on still has it.
func TestParseTruncated(t *testing.T) {
	whole := fromHex(t, packetBody)
	const idEnd = genHeaderLen + attrLen + 7
	for n := range len(whole) {
		var p inspect.Packet
		hasID, err := parse(whole[:n], &p)
		if !errors.Is(err, errMalformed) {
			t.Errorf("cut at %d: %v", n, err)
		}
		if hasID != (n >= idEnd) || (hasID && p.ID != 42) {
			t.Errorf("cut at %d: hasID %t, ID %d", n, hasID, p.ID)
		}
	}
}

func FuzzParse(f *testing.F) {
	whole := fromHex(f, packetBody)
	f.Add(whole)
	for n := range len(whole) {
		f.Add(whole[:n])
	}
	for _, info := range []string{"", "00000001", "00000002", "00000004", "ffffffff"} {
		f.Add(skbInfoBody(f, info))
	}
	for _, uid := range []string{"00000000", "000003e8", "ffffffff"} {
		f.Add(userBody(f, "03", uid))
		f.Add(userBody(f, "01", uid))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p inspect.Packet
		hasID, err := parse(b, &p)
		if p.UID < -1 || p.UID >= noUser {
			t.Errorf("user %d", p.UID)
		}
		if err == nil && (!hasID || len(p.Payload) > len(b)) {
			t.Errorf("accepted %+v of %d bytes", p, len(b))
		}
	})
}

func FuzzParseStats(f *testing.F) {
	f.Add([]byte("   80  31415     0 2 65531     0     0        7  1\n"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = parseStats(b)
	})
}

func TestParseStats(t *testing.T) {
	got, err := parseStats([]byte("   80  31415     3 2 65531     1     2        7  1\n"))
	want := []Stat{{Number: 80, PortID: 31415, Waiting: 3, Whole: true, QueueDropped: 1, UserDropped: 2, Sequence: 7}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := parseStats([]byte("80 x\n")); err == nil {
		t.Error("a malformed line was accepted")
	}
}

func testReader(i inspect.Inspector) *Reader {
	queue := &Queue{config: Config{Number: 80}}
	r := &Reader{queue: queue, clock: newClock(), options: ReaderOptions{
		Inspector: i, Attachment: &inspect.Attachment{}, MarkMask: 0xff000000,
		Observer: func() Observer { return nil },
	}}
	r.SetAway(nil)
	r.setSession()
	r.SetFailOpen(true)
	return r
}

func packetMessage(tb testing.TB) []byte {
	body := fromHex(tb, packetBody)
	m := binary.NativeEndian.AppendUint32(nil, uint32(nlHeaderLen+len(body)))
	m = binary.NativeEndian.AppendUint16(m, msgPacket)
	return append(append(m, make([]byte, nlHeaderLen-len(m))...), body...)
}

func TestReaderDoesNotAllocate(t *testing.T) {
	r := testReader(inspect.Func(func(p *inspect.Packet) inspect.Verdict {
		return inspect.Verdict{
			Action: inspect.Accept, Mark: p.ID << 24, MarkMask: 0xff000000, Settle: true,
		}
	}))
	r.SetSettle(1<<24, 2<<24)
	m := packetMessage(t)
	buf := make([]byte, 0, verdictLen)
	n := testing.AllocsPerRun(1000, func() {
		r.session.verdicts.reset(buf, 80)
		r.session.handle(m)
		r.session.verdicts.closeRun()
	})
	if n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}

// What the inspector's panic says comes out, while its stack is there; the first
// text is kept until it is taken.
func TestPanicIsPassedOn(t *testing.T) {
	r := testReader(inspect.Func(func(p *inspect.Packet) inspect.Verdict {
		panic(strings.Repeat("\xff", maxPanicText) + "and more")
	}))
	var said any
	stack, calls := "", 0
	r.options.Panicked = func(from *Reader, what any) {
		if from != r {
			t.Error("another reader's panic")
		}
		said, stack = what, string(debug.Stack())
		calls++
	}
	for range 2 {
		r.session.verdicts.reset(nil, 80)
		r.session.handle(packetMessage(t))
	}
	if calls != 2 || r.session.verdicts.counters.panics != 1 || r.session.verdicts.counters.accepted != 1 {
		t.Errorf("told of %d panics, counted %+v", calls, r.session.verdicts.counters)
	}
	if !strings.Contains(stack, "TestPanicIsPassedOn.func1") {
		t.Errorf("the stack does not name the inspector:\n%s", stack)
	}
	if got, want := r.TakePanic(), "?..."; got != want || PanicText(said) != want {
		t.Errorf("kept %q, want %q", got, want)
	}
	if got := r.TakePanic(); got != "" {
		t.Errorf("kept %q after it was taken", got)
	}
}

// Whatever comes, a message with an ID is answered and one without is not.
func FuzzReader(f *testing.F) {
	m := packetMessage(f)
	for n := range len(m) {
		f.Add(m[:n])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := testReader(inspect.Func(func(p *inspect.Packet) inspect.Verdict {
			p.Flow()
			return inspect.Verdict{}
		}))
		s := r.session
		s.verdicts.reset(nil, 80)
		s.begin(b)
		s.handle(b)
		s.verdicts.closeRun()
		answered := s.verdicts.counters.accepted + s.verdicts.counters.dropped
		if (len(s.verdicts.buf) > 0) != (answered == 1) {
			t.Errorf("%d bytes of verdicts, %d counted", len(s.verdicts.buf), answered)
		}
	})
}

func TestValidate(t *testing.T) {
	good := Config{Length: 1, CopyRange: 1, ReceiveBuffer: 1 << 16}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"no length":   func(c *Config) { c.Length = 0 },
		"long":        func(c *Config) { c.Length = MaxLength + 1 },
		"no copy":     func(c *Config) { c.CopyRange = 0 },
		"wide copy":   func(c *Config) { c.CopyRange = MaxCopyRange + 1 },
		"tiny buffer": func(c *Config) { c.ReceiveBuffer = 1 },
	} {
		c := good
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// BenchmarkReader is a packet's way through the reader without the kernel.
func BenchmarkReader(b *testing.B) {
	r := testReader(inspect.AcceptAll{})
	m := packetMessage(b)
	out := make([]byte, 0, verdictLen)
	b.ReportAllocs()
	for b.Loop() {
		r.session.verdicts.reset(out, 80)
		r.session.handle(m)
	}
}

// The receive path knows messages that are cut.
func TestBatchMessage(t *testing.T) {
	b, err := newBatch(64)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	}()
	b.headers[0].len = 8
	if m := b.message(0); len(m) != 8 {
		t.Errorf("message of %d bytes, want 8", len(m))
	}
	b.headers[0].hdr.Flags = unix.MSG_TRUNC
	if b.message(0) != nil {
		t.Error("a cut message was taken")
	}
}

// Runs of equal plain verdicts become one message, and nothing else does.
func TestRuns(t *testing.T) {
	var a verdictBatch
	a.reset(nil, 80)
	accept, drop := rawVerdict{verdict: verdictAccept}, rawVerdict{verdict: verdictDrop}
	marked := rawVerdict{verdict: verdictAccept, mark: 1, setMark: true}
	for i, v := range []*rawVerdict{&accept, &accept, &accept, &marked, &drop, &accept, &drop, &drop} {
		a.add(uint32(i), v)
	}
	a.closeRun()
	want := appendBatchVerdict(nil, 80, 2, verdictAccept)
	want = appendVerdict(want, 80, 3, &marked)
	want = appendVerdict(want, 80, 4, &drop)
	want = appendVerdict(want, 80, 5, &accept)
	want = appendBatchVerdict(want, 80, 7, verdictDrop)
	if diff := cmp.Diff(hex.Dump(want), hex.Dump(a.buf)); diff != "" {
		t.Error(diff)
	}
}

// Many verdicts are cut between messages only.
func TestChunk(t *testing.T) {
	payload := make([]byte, 50_001)
	var all []byte
	for i := range 7 {
		all = appendVerdict(all, 80, uint32(i), &rawVerdict{verdict: verdictAccept, payload: payload})
	}
	var again []byte
	for rest := all; len(rest) > 0; {
		var head []byte
		head, rest = chunk(rest)
		if len(head) == 0 || len(head) > maxSend {
			t.Fatalf("a chunk of %d bytes", len(head))
		}
		again = append(again, head...)
	}
	if string(again) != string(all) {
		t.Error("chunks do not make up the whole")
	}
}
