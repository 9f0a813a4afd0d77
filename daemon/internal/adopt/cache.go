// SPDX-License-Identifier: Apache-2.0

package adopt

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// maxRecord bounds a file of the cache; honest ones take some KiB.
const maxRecord = 1 << 20

// loopback is what runtimes call the loopback plugin for. Its packets are never
// queued, and what the cache has of it is about no pod's network.
const loopback = "lo"

// readCache reads all files of the cache. One that makes no sense is a result.
func readCache(dir string) (records []record, unreadable []api.AdoptResult, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read CNI cache: %w", err)
	}
	for _, e := range entries {
		r, err := readRecord(dir, e.Name())
		switch {
		case errors.Is(err, fs.ErrNotExist): // the pod was deleted just now
		case err != nil:
			unreadable = append(unreadable, api.AdoptResult{
				Outcome: api.AdoptSkipped,
				Reason:  fmt.Sprintf("cached result %s: %s", filepath.Join(dir, e.Name()), err),
			})
		case r.key.Ifname != loopback:
			records = append(records, r)
		}
	}
	return records, unreadable, nil
}

func readRecord(dir, name string) (record, error) {
	b, err := readOwned(filepath.Join(dir, name))
	if err != nil {
		return record{}, err
	}
	return parseRecord(name, b)
}

// readOwned reads a regular file that only root, or the user that we run as, can
// have written.
func readOwned(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	switch {
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case owner != 0 && int(owner) != os.Geteuid():
		return nil, fmt.Errorf("it belongs to user %d: want root", owner)
	case info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("others may write to it (mode %#o)", info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxRecord {
		return nil, fmt.Errorf("larger than %d bytes", maxRecord)
	}
	return b, nil
}

// ifnamesOf returns the names of interfaces that the records are about.
func ifnamesOf(records []record) []string {
	var names []string
	for i := range records {
		if !slices.Contains(names, records[i].key.Ifname) {
			names = append(names, records[i].key.Ifname)
		}
	}
	return names
}
