// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestExplainFDLimit(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	for cause, want := range map[error]string{
		unix.EMFILE: fmt.Sprintf("may open %d (LimitNOFILE=", limit.Cur),
		unix.ENFILE: "fs.file-max",
	} {
		err := explainFDLimit(fmt.Errorf("open queue socket: %w", cause))
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want the cause and %q", err, want)
		}
	}
	err := explainFDLimit(unix.EPERM)
	if !errors.Is(err, unix.EPERM) || err.Error() != unix.EPERM.Error() {
		t.Errorf("another error became %v", err)
	}
	if err := explainFDLimit(nil); err != nil {
		t.Errorf("no error became %v", err)
	}
}
