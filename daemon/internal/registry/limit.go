// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// isLimit reports whether an error is about too many open files.
func isLimit(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
}

// explainLimit adds to an error about too many open files which limit it is
// about and where it is set.
func explainLimit(err error) error {
	switch {
	case errors.Is(err, unix.ENFILE):
		return fmt.Errorf("%w: the node's limit (sysctl fs.file-max)", err)
	case !errors.Is(err, unix.EMFILE):
		return err
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return err
	}
	return fmt.Errorf("%w: this process may open %d (LimitNOFILE= of the unit, ulimit -n)",
		err, limit.Cur)
}
