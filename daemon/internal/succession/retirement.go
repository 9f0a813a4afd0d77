// SPDX-License-Identifier: Apache-2.0

package succession

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nsqueue/nsqueue/internal/atomicfile"
	"github.com/nsqueue/nsqueue/internal/boottime"
)

// Retirement says that an installation leaves the node. It holds for the supervisors that
// had started by then, and their daemons: those that start later are a new installation.
type Retirement struct {
	// Instance that leaves; empty means any.
	Instance string `json:"instance,omitempty"`
	// At is when that was said, since boot.
	At time.Duration `json:"at"`
	// BootID is that of the boot.
	BootID string `json:"bootID"`
}

// retirementName is the file's name in the directory that supervisors share.
const retirementName = "retired.json"

// maxRetirement is the longest file that is read.
const maxRetirement = 4 << 10

// RetirementPath is where supervisors that share a directory look whether they are to
// leave.
func RetirementPath(dir string) string { return filepath.Join(dir, retirementName) }

// Retire has the supervisors leave that look at the file.
func Retire(path, instance string) error {
	id, err := boottime.ID()
	if err != nil {
		return err
	}
	b, err := json.Marshal(&Retirement{Instance: instance, At: boottime.Now(), BootID: id})
	if err != nil {
		return err
	}
	return atomicfile.Replace(path, append(b, '\n'), &atomicfile.Options{Mode: 0o600})
}

// IsRetired reports whether a supervisor of an instance that began at a time since boot is
// to leave.
func IsRetired(path, instance string, began time.Duration) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRetirement))
	if err != nil {
		return false, err
	}
	r, err := parseRetirement(b)
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	id, err := boottime.ID()
	return r.BootID == id && r.At > began && (r.Instance == "" || r.Instance == instance), err
}

func parseRetirement(b []byte) (Retirement, error) {
	var r Retirement
	if err := json.Unmarshal(b, &r); err != nil {
		return Retirement{}, err
	}
	if r.At <= 0 || r.BootID == "" {
		return Retirement{}, errors.New("it does not say when an installation was to leave")
	}
	return r, nil
}
