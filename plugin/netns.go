// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/containernetworking/cni/pkg/types"
)

// nsGetNSType is the ioctl that asks a descriptor which kind of namespace it
// is (NS_GET_NSTYPE, linux/nsfs.h).
const nsGetNSType = 0xb703

// openNetns opens CNI_NETNS and makes sure that it is a netns, and not that of the
// plugin, which would be the node's.
func (p *process) openNetns() (*os.File, error) {
	path := p.getenv("CNI_NETNS")
	if !utf8.ValidString(path) { // JSON would carry another one
		return nil, types.NewError(types.ErrInvalidEnvironmentVariables,
			fmt.Sprintf("CNI_NETNS %.200q: want UTF-8", path), "")
	}
	// O_NONBLOCK, because the path could be a FIFO.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, types.NewError(types.ErrInvalidNetNS,
			fmt.Sprintf("open CNI_NETNS: %v", err), "")
	}
	if err := p.checkNetns(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func (p *process) checkNetns(f *os.File) error {
	kind, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), nsGetNSType, 0)
	if errno != 0 || kind != syscall.CLONE_NEWNET {
		return types.NewError(types.ErrInvalidNetNS,
			fmt.Sprintf("CNI_NETNS %q is not a network namespace", f.Name()), "")
	}
	if override := p.getenv("CNI_NETNS_OVERRIDE"); override == "1" ||
		strings.EqualFold(override, "true") {
		return nil
	}
	theirs, err := f.Stat()
	if err != nil {
		return types.NewError(types.ErrInvalidNetNS, fmt.Sprintf("stat CNI_NETNS: %v", err), "")
	}
	ours, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("compare CNI_NETNS with the plugin's own netns: %w", err)
	}
	if os.SameFile(theirs, ours) {
		return types.NewError(types.ErrInvalidNetNS,
			fmt.Sprintf("CNI_NETNS %q is the netns of the plugin itself", f.Name()),
			"CNI_NETNS_OVERRIDE=1 allows it")
	}
	return nil
}
