// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nfqueue_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// seen is what an inspector has found out about checksums.
type seen struct {
	direction    inspect.Direction
	checksum     inspect.Checksum
	right, known bool
}

// lookAt has the fixture's packets told to the channel, and passes them.
func (f *fixture) lookAt(size int) <-chan seen {
	f.Helper()
	packets := make(chan seen, size)
	f.read(80, false, func(p *inspect.Packet) inspect.Verdict {
		s := seen{direction: p.Direction, checksum: p.Checksum}
		s.right, s.known = inspect.VerifyChecksum(p.Payload)
		packets <- s
		return inspect.Verdict{Action: inspect.Accept}
	})
	return packets
}

// rawUDP is a datagram with its IP header, whose checksum is off by wrong.
func rawUDP(from, to netip.AddrPort, wrong uint16) []byte {
	b := make([]byte, 32)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], from.Addr().AsSlice())
	copy(b[16:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[20:], from.Port())
	binary.BigEndian.PutUint16(b[22:], to.Port())
	binary.BigEndian.PutUint16(b[24:], 12)
	b[26] = 1 // there is one
	copy(b[28:], "data")
	inspect.FixChecksums(b)
	binary.BigEndian.PutUint16(b[26:], binary.BigEndian.Uint16(b[26:])+wrong)
	return b
}

// sendRaw sends a packet that begins at its IPv4 header.
func (f *fixture) sendRaw(ns *nstest.NetNS, b []byte, to netip.Addr) {
	f.Helper()
	f.must(ns.Try(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: to.As4()})
	}))
}

// What comes from a socket of the node has no checksum so far. What was put together
// elsewhere is for the receiver to verify, who drops what is wrong.
func TestChecksumsOfPackets(t *testing.T) {
	f := newFixtureOf(t, hook.In|hook.Out)
	packets := f.lookAt(16)
	f.send(1)
	if got, want := <-packets, inspect.ChecksumNotReady; got.checksum != want {
		t.Errorf("out from a socket: %+v, want %d", got, want)
	}
	server := f.pod.ListenUDP(t, netip.AddrPortFrom(f.pod.IPv4(), 0).String())
	to := netip.MustParseAddrPort(server.LocalAddr().String())
	from := netip.AddrPortFrom(f.peer.IPv4(), 4321)
	for _, wrong := range []uint16{1, 0} {
		f.sendRaw(f.peer, rawUDP(from, to, wrong), to.Addr())
		want := seen{inspect.In, inspect.ChecksumUnverified, wrong == 0, true}
		if got := <-packets; got != want {
			t.Errorf("off by %d: %+v, want %+v", wrong, got, want)
		}
	}
	buf := make([]byte, 64)
	f.must(server.SetReadDeadline(time.Now().Add(reply)))
	if n, err := server.Read(buf); err != nil || string(buf[:n]) != "data" {
		t.Errorf("received %q, %v", buf[:n], err)
	}
	f.must(server.SetReadDeadline(time.Now().Add(silence)))
	if n, err := server.Read(buf); err == nil {
		t.Errorf("received %q, whose checksum was wrong", buf[:n])
	}
}

// A TCP sender in bulk hands over several segments as one packet, unless the
// inspector wants them one by one.
func TestMergedPackets(t *testing.T) {
	for _, modifies := range []bool{false, true} {
		f := newFixture(t)
		merged := make(chan bool, 1<<12)
		f.readWith(modifies, false, func(p *inspect.Packet) inspect.Verdict {
			if p.Merged && p.Checksum != inspect.ChecksumNotReady {
				t.Errorf("a merged packet out has checksum state %d", p.Checksum)
			}
			select {
			case merged <- p.Merged:
			default:
			}
			return inspect.Verdict{Action: inspect.Accept}
		})
		l := f.peer.ListenTCP(t, netip.AddrPortFrom(f.peer.IPv4(), 0).String())
		c := f.pod.DialTCP(t, l.Addr().String())
		_, err := c.Write(make([]byte, 1<<16))
		f.must(err)
		found := false
		for range 3 { // a SYN, an ACK, and data
			found = found || <-merged
		}
		if found == modifies {
			t.Errorf("modifies %t: merged %t", modifies, found)
		}
	}
}
