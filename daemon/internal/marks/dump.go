// SPDX-License-Identifier: Apache-2.0

package marks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// errTooMany ends a list that takes too long.
var errTooMany = errors.New("there are too many rules")

// list asks a netlink protocol of the netns for everything of one kind, and calls
// each with the messages' bodies. The kernel sends a part for each call that
// receives.
func (f *finder) list(
	ns *netns.NetNS, protocol int, kind uint16, body []byte, each func(body []byte) error,
) error {
	fd, err := ns.Socket(unix.AF_NETLINK, unix.SOCK_RAW, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	wait := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return os.NewSyscallError("setsockopt SO_RCVTIMEO", err)
	}
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	// Connected to the kernel, a socket receives from nobody else.
	if err := unix.Connect(fd, kernel); err != nil {
		return os.NewSyscallError("connect netlink socket", err)
	}
	if _, err := unix.Write(fd, dumpRequest(kind, body)); err != nil {
		return os.NewSyscallError("write netlink request", err)
	}
	buf := make([]byte, 64<<10) // the kernel sends at most 32 KiB at a time
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return os.NewSyscallError("read netlink answer", err)
		case time.Now().After(f.deadline):
			return errTooMany
		}
		if done, err := eachMessage(buf[:n], each); done || err != nil {
			return err
		}
	}
}

func dumpRequest(kind uint16, body []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	b = append(b, make([]byte, 8)...) // sequence and port: there is no other request
	return append(b, body...)
}

// eachMessage splits what was received. done says that it has the list's end.
func eachMessage(b []byte, each func(body []byte) error) (done bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.SizeofNlMsghdr || length > len(b) {
			return true, errors.New("malformed netlink message")
		}
		body := b[unix.SizeofNlMsghdr:length]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return true, errors.New("malformed netlink error")
			}
			code := unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
			return true, fmt.Errorf("netlink: %w", code)
		}
		if err := each(body); err != nil {
			return true, err
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return false, nil
}
