// SPDX-License-Identifier: Apache-2.0

package adopt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// missing says what could not be looked at, and what a container lacks then.
func missing(o *Options, s *scanned) []string {
	var texts []string
	if _, err := os.Stat(o.CacheDir); err != nil {
		texts = append(texts, fmt.Sprintf("no CNI result was found: %s; if nsqueued runs in a "+
			"container, mount the node's %s there, read-only", reason(err), o.CacheDir))
	}
	if len(s.listed) > 0 || len(o.NetnsDirs) == 0 {
		return texts
	}
	var looked []string
	for _, dir := range o.NetnsDirs {
		_, err := os.Stat(dir)
		looked = append(looked, fmt.Sprintf("%s (%s)", dir, reason(err)))
	}
	return append(texts, fmt.Sprintf("no pod's netns was found in %s; if nsqueued runs in a "+
		"container, mount the node's directory there, with propagation HostToContainer",
		strings.Join(looked, ", ")))
}

// reason words why a directory has nothing.
func reason(err error) string {
	switch {
	case err == nil:
		return "no netns in it"
	case errors.Is(err, fs.ErrNotExist):
		return "no such directory"
	}
	return err.Error()
}

// shows reports whether any netns is seen in the directory that a path leads to,
// so that the one that is not there is gone.
func (s *scanned) shows(path string) bool {
	for _, p := range netns.Paths(path) {
		entries, err := os.ReadDir(filepath.Dir(p))
		if err != nil {
			continue
		}
		for _, e := range entries {
			var st unix.Statfs_t
			err := unix.Statfs(filepath.Join(filepath.Dir(p), e.Name()), &st)
			if err == nil && st.Type == unix.NSFS_MAGIC {
				return true
			}
		}
	}
	return false
}

// atAny looks into the netns at the first of the paths that has one.
func (s *scanned) atAny(paths []string) (found *netnsInfo, err error) {
	for _, path := range paths {
		found, err = s.at(path)
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, netns.ErrNotNetns) {
			break
		}
	}
	return found, err
}
