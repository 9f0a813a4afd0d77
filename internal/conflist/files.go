// SPDX-License-Identifier: Apache-2.0

package conflist

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/version"
)

var (
	// ErrNoConfig says that the directory has no CNI configuration, or is missing:
	// the network has not been installed yet.
	ErrNoConfig = errors.New("no CNI configuration")
	// ErrVersion says that nsqueue cannot be in a network of this version of the CNI
	// specification.
	ErrVersion = errors.New("unsupported cniVersion")
)

// oldest is the first version of the specification that hands the result of a
// plugin to the next.
const oldest = "0.3.0"

// isConfig reports whether runtimes read files of that name.
func isConfig(name string) bool {
	switch filepath.Ext(name) {
	case ".conf", ".conflist", ".json":
		return true
	}
	return false
}

// file is a configuration as it was read.
type file struct {
	// path is where it was found; target is where a symbolic link leads to.
	path, target string
	text         []byte
}

// read reads a file. It returns ErrChanged where the file is gone since it was
// listed. It refuses what is not a regular file: to read a pipe would wait for its
// writer.
func read(path string) (*file, error) {
	target, err := filepath.EvalSymlinks(path)
	if err == nil {
		var text []byte
		if text, err = readRegular(target); err == nil {
			return &file{path, target, text}, nil
		}
	}
	if _, gone := os.Lstat(path); errors.Is(gone, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", path, ErrChanged)
	}
	return nil, fmt.Errorf("read %s: %w", path, err)
}

func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return os.ReadFile(path)
}

// loadList reads a conflist with the library of the runtimes, and checks that
// nsqueue can be in it.
func loadList(text []byte) (*libcni.NetworkConfigList, error) {
	l, err := libcni.NetworkConfFromBytes(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return l, checkVersion(l.CNIVersion)
}

func checkVersion(v string) error {
	if v != "" {
		enough, err := version.GreaterThanOrEqualTo(v, oldest)
		if err != nil {
			return fmt.Errorf("%w: cniVersion %q: %w", ErrInvalid, v, err)
		}
		tooMuch, err := version.GreaterThan(v, version.Current())
		if err != nil {
			return fmt.Errorf("%w: cniVersion %q: %w", ErrInvalid, v, err)
		}
		if enough && !tooMuch {
			return nil
		}
	}
	return fmt.Errorf("%w: %q, want %s to %s", ErrVersion, v, oldest, version.Current())
}
