// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Inspect reads what [Open] and [Store.Load] would, and changes nothing. Another process
// may have the directory open. It returns the number of attachments and the errors of the
// damaged files. Its error matches [ErrNewer] as Load's does.
func Inspect(stateDir string) (records int, damaged []error, err error) {
	dir := filepath.Join(stateDir, "attachments")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) { // the first daemon makes it
		_, err = os.ReadDir(stateDir)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return 0, nil, err
	}
	if err != nil {
		return 0, nil, err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		switch _, err := load(filepath.Join(dir, e.Name())); {
		case err == nil:
			records++
		case errors.Is(err, ErrNewer):
			return 0, nil, err
		case !errors.Is(err, fs.ErrNotExist): // else it was removed meanwhile
			damaged = append(damaged, err)
		}
	}
	return records, damaged, nil
}
