// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// ShareNetnsDirectory makes /run/netns as nodes have it until the end of the test: what is
// mounted there appears in mount namespaces that follow the test's.
func ShareNetnsDirectory(t *testing.T) {
	t.Helper()
	const dir = "/run/netns"
	Must(t, os.MkdirAll(dir, 0o755))
	Must(t, unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""))
	Must(t, unix.Mount("", dir, "", unix.MS_SHARED, ""))
	t.Cleanup(func() { Must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
}
