// SPDX-License-Identifier: Apache-2.0

// Package nstest is what tests and the demo stand on: a throw-away node (own
// network, mount and PID namespaces, own /run, /etc/cni and /var/lib/cni) that
// a whole test binary runs in, and network namespaces inside it that play the
// pods. Nothing here touches the machine's own network or files, and all of it
// is gone when the process ends, however it ends.
//
// Apart from daemon/internal/netns this is the only package that moves threads
// between namespaces. It needs no external program, so that it works in a
// minimal initramfs too.
package nstest
