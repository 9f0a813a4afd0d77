// SPDX-License-Identifier: Apache-2.0

package place

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// netnsDirs returns those of the directories that are there, each once.
func (o *Options) netnsDirs() []api.NetnsDir {
	mounts, err := os.ReadFile(o.self("mountinfo"))
	own := o.ownMounts()
	seen := make(map[string]bool)
	var list []api.NetnsDir
	for _, dir := range o.NetnsDirs {
		target, evalErr := filepath.EvalSymlinks(dir)
		if evalErr != nil || seen[target] {
			continue
		}
		seen[target] = true
		d := api.NetnsDir{Path: dir, Follows: api.OfNode}
		switch {
		case err != nil:
			d.Follows = api.SightUnknown
		case own == api.OfItsOwn:
			d.Follows = follows(string(mounts), target)
		case own == api.SightUnknown && follows(string(mounts), target) != api.OfNode:
			d.Follows = api.SightUnknown
		}
		list = append(list, d)
	}
	return list
}

// ownMounts says whose mount namespace this process is in. That of process 1 is the
// node's where process 1 is. Elsewhere process 1 may be one of the same container; where it
// is not, its mounts are others.
func (o *Options) ownMounts() api.Sight {
	var self, first unix.Stat_t
	if unix.Stat(o.self("ns/mnt"), &self) != nil ||
		unix.Stat(filepath.Join(o.Proc, "1/ns/mnt"), &first) != nil {
		return api.SightUnknown
	}
	switch {
	case self.Dev != first.Dev || self.Ino != first.Ino:
		return api.OfItsOwn
	case o.pidNamespace() == api.OfNode:
		return api.OfNode
	}
	return api.SightUnknown
}

// follows reads a mountinfo file: after six fields come optional ones, up to a hyphen.
// One that is shared:N or master:N gets what is mounted elsewhere. Of mounts over each
// other the last one counts.
func follows(mountinfo, dir string) api.Sight {
	best, sight := -1, api.SightUnknown
	for line := range strings.Lines(mountinfo) {
		before, _, ok := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 6 {
			continue
		}
		point := unescape(fields[4])
		if !within(dir, point) || len(point) < best {
			continue
		}
		best, sight = len(point), api.OfItsOwn
		for _, option := range fields[6:] {
			if strings.HasPrefix(option, "shared:") || strings.HasPrefix(option, "master:") {
				sight = api.OfNode
			}
		}
	}
	return sight
}

// within reports whether a directory is another one, or below it.
func within(dir, point string) bool {
	return point == "/" || dir == point || strings.HasPrefix(dir, point+"/")
}

// unescape undoes how the kernel writes what would end a field.
func unescape(path string) string {
	return strings.NewReplacer(
		`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`, `\043`, "#").Replace(path)
}
