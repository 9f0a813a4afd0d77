// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// conn is a netfilter netlink socket inside a netns. What the kernel sends in
// answer to a request is in the socket when the send returns, so nothing here
// waits.
type conn struct {
	file    *os.File
	seq     uint32
	buffers *buffers
}

// dumpBuffer is what the kernel fills at a time when it lists objects.
type dumpBuffer [32 << 10]byte

// buffers lends the connections of all pods what they receive into, so that an
// idle pod has none.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() *dumpBuffer {
	if buf, ok := b.pool.Get().(*dumpBuffer); ok {
		return buf
	}
	return new(dumpBuffer)
}

func (b *buffers) put(buf *dumpBuffer) { b.pool.Put(buf) }

// connect takes over the inherited socket, or where there is none, opens one.
func connect(ns *netns.NetNS, inherited *os.File, b *buffers) (*conn, error) {
	if inherited == nil {
		fd, err := ns.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK,
			unix.NETLINK_NETFILTER)
		if err != nil {
			return nil, err
		}
		inherited = os.NewFile(uintptr(fd), "nftables")
	}
	// A predecessor's replies have other numbers.
	c := &conn{file: inherited, seq: rand.Uint32(), buffers: b}
	err := c.control(func(fd int) error {
		if err := checkSocket(fd, ns); err != nil {
			return fmt.Errorf("take over descriptor %d (%s): %w", fd, inherited.Name(), err)
		}
		// Connected to the kernel, and that binds it, a socket receives from
		// nobody else: with CAP_NET_ADMIN in its netns anybody might send.
		kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
		return os.NewSyscallError("connect netlink socket", unix.Connect(fd, kernel))
	})
	if err == nil {
		err = c.drain()
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// checkSocket reports a descriptor that is no netfilter socket of the netns.
func checkSocket(fd int, ns *netns.NetNS) error {
	for _, o := range []struct {
		name         string
		option, want int
	}{
		{"domain", unix.SO_DOMAIN, unix.AF_NETLINK},
		{"protocol", unix.SO_PROTOCOL, unix.NETLINK_NETFILTER},
	} {
		have, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, o.option)
		if err != nil {
			return os.NewSyscallError("getsockopt socket "+o.name, err)
		}
		if have != o.want {
			return fmt.Errorf("no netfilter netlink socket: %s is %d, want %d",
				o.name, have, o.want)
		}
	}
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return os.NewSyscallError("getsockopt SO_NETNS_COOKIE", err)
	}
	if want := ns.ID().Cookie; cookie != want {
		return fmt.Errorf("socket of netns %d, want %d", cookie, want)
	}
	return nil
}

// drain reads what a predecessor has not. It also ends a list that the kernel
// has begun for him: until then it would begin no other.
func (c *conn) drain() error {
	buf := c.buffers.get()
	defer c.buffers.put(buf)
	return c.control(func(fd int) error {
		for {
			_, _, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT)
			switch {
			case errors.Is(err, unix.EAGAIN):
				return nil
			case err != nil && !errors.Is(err, unix.ENOBUFS):
				return os.NewSyscallError("recvfrom", err)
			}
		}
	})
}

func (c *conn) close() error { return c.file.Close() }

// request is one message of a batch or of a dump.
type request struct {
	table string // none: of all tables
	kind  uint16 // NFT_MSG_…
	flags netlink.HeaderFlags
	attrs func(*netlink.AttributeEncoder) error
}

// transact carries out all requests or none.
func (c *conn) transact(requests []request) error {
	msg, err := c.batch(requests)
	if err != nil {
		return err
	}
	last := c.seq - 2 // the batch ends with another message
	done := false
	err = c.exchange(msg, func(m netlink.Message) error {
		if m.Header.Type != netlink.Error {
			return nil
		}
		done = done || m.Header.Sequence == last
		return errnoOf(m.Data)
	})
	if err == nil && !done {
		return errors.New("nftables batch: no reply from the kernel")
	}
	return err
}

// batch encodes requests between the two messages that make them one.
func (c *conn) batch(requests []request) ([]byte, error) {
	msg := c.appendMessage(nil, unix.NFNL_MSG_BATCH_BEGIN, netlink.Request,
		unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	for i, r := range requests {
		flags := netlink.Request | r.flags
		if i == len(requests)-1 {
			flags |= netlink.Acknowledge
		}
		attrs, err := r.encode()
		if err != nil {
			return nil, err
		}
		msg = c.appendMessage(msg, nftType(r.kind), flags, unix.NFPROTO_INET, 0, attrs)
	}
	return c.appendMessage(msg, unix.NFNL_MSG_BATCH_END, netlink.Request,
		unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil), nil
}

// get asks for one object or, with netlink.Dump, for a list, and calls each
// with the attributes of every answer.
func (c *conn) get(r request, each func(*netlink.AttributeDecoder) error) error {
	attrs, err := r.encode()
	if err != nil {
		return err
	}
	msg := c.appendMessage(nil, nftType(r.kind), netlink.Request|r.flags,
		unix.NFPROTO_INET, 0, attrs)
	return c.exchange(msg, func(m netlink.Message) error {
		switch m.Header.Type {
		case netlink.Error:
			return errnoOf(m.Data)
		case netlink.Done, netlink.Noop:
			return nil
		}
		if len(m.Data) < genHeaderLen {
			return errors.New("nftables reply without a netfilter header")
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[genHeaderLen:])
		if err != nil {
			return err
		}
		ad.ByteOrder = binary.BigEndian
		return errors.Join(each(ad), ad.Err())
	})
}

// exchange sends msg and hands every reply to handle; it goes on to the last
// one, so that none is left for the next exchange, and returns the first error.
func (c *conn) exchange(msg []byte, handle func(netlink.Message) error) error {
	buf := c.buffers.get()
	defer c.buffers.put(buf)
	return c.control(func(fd int) error {
		kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
		if err := unix.Sendto(fd, msg, 0, kernel); err != nil {
			return os.NewSyscallError("sendto", err)
		}
		var first error
		for {
			n, from, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT)
			if errors.Is(err, unix.EAGAIN) {
				return first
			}
			if err != nil {
				return os.NewSyscallError("recvfrom", err)
			}
			if nl, ok := from.(*unix.SockaddrNetlink); !ok || nl.Pid != 0 {
				continue
			}
			if err := c.handleAll(buf[:n], handle); err != nil && first == nil {
				first = err
			}
		}
	})
}

// handleAll splits a datagram into its messages.
func (c *conn) handleAll(b []byte, handle func(netlink.Message) error) error {
	var first error
	for len(b) >= unix.SizeofNlMsghdr {
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.SizeofNlMsghdr || length > len(b) {
			return errors.Join(first, errors.New("malformed nftables reply"))
		}
		var m netlink.Message
		m.Header.Type = netlink.HeaderType(binary.NativeEndian.Uint16(b[4:]))
		m.Header.Sequence = binary.NativeEndian.Uint32(b[8:])
		m.Data = b[unix.SizeofNlMsghdr:length]
		if err := handle(m); err != nil && first == nil {
			first = err
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return first
}

const genHeaderLen = 4 // struct nfgenmsg

func nftType(kind uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | kind }

// appendMessage appends a message with the next sequence number.
func (c *conn) appendMessage(
	b []byte, kind uint16, flags netlink.HeaderFlags, family byte, resource uint16, attrs []byte,
) []byte {
	length := unix.SizeofNlMsghdr + genHeaderLen + len(attrs)
	b = binary.NativeEndian.AppendUint32(b, uint32(length))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, uint16(flags))
	b = binary.NativeEndian.AppendUint32(b, c.seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = append(b, family, unix.NFNETLINK_V0)
	b = binary.BigEndian.AppendUint16(b, resource)
	c.seq++
	return append(b, attrs...) // attributes are always padded
}

// encode returns the attributes. The table comes first, and its attribute has
// the same number in all requests.
func (r *request) encode() ([]byte, error) {
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	if r.table != "" {
		ae.String(unix.NFTA_TABLE_NAME, r.table)
	}
	if r.attrs != nil {
		if err := r.attrs(ae); err != nil {
			return nil, err
		}
	}
	return ae.Encode()
}

func errnoOf(payload []byte) error {
	if len(payload) < 4 {
		return errors.New("malformed netlink error")
	}
	if code := int32(binary.NativeEndian.Uint32(payload)); code != 0 {
		return fmt.Errorf("nftables: %w", unix.Errno(-code))
	}
	return nil
}

func (c *conn) control(fn func(fd int) error) error {
	return fdcontrol.Do(c.file, fn)
}
