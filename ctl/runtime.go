// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io/fs"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/nsqueue/nsqueue/internal/conflist"
)

// runtimes are the container runtimes of a node whose programs are found.
type runtimes struct {
	found []string
	// dropIns: all that were found read the directory of a network.
	dropIns bool
}

// versionTimeout bounds how long a program may take to say its version.
const versionTimeout = 5 * time.Second

// findRuntimes asks containerd and CRI-O for their versions: those that run, and where none
// is seen the programs that are installed.
func findRuntimes(ctx context.Context, p *profile, running *runningPrograms) runtimes {
	r := runtimes{dropIns: true}
	for _, known := range []struct {
		name  string
		first release // that reads drop-ins
	}{{"containerd", release{2, 1, 0}}, {"crio", release{1, 33, 0}}} {
		said := running.ask(ctx, known.name)
		if said == nil {
			said = askInstalled(ctx, p, known.name)
		}
		if said != nil {
			r.found = append(r.found, known.name)
		}
		for _, text := range said {
			v, ok := parseRelease(text)
			r.dropIns = r.dropIns && ok && !v.before(known.first)
		}
	}
	r.dropIns = r.dropIns && len(r.found) > 0
	return r
}

// askInstalled returns what the program that is installed says of its version, nil where
// there is none. It says nothing where it does not run.
func askInstalled(ctx context.Context, p *profile, name string) []string {
	path, err := findProgram(p.programs, name)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return []string{""}
	}
	return []string{string(out)}
}

// findProgram looks in a directory, and then in PATH.
func findProgram(dir, name string) (string, error) {
	if dir != "" {
		path, err := exec.LookPath(filepath.Join(dir, name))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return path, err
		}
	}
	return exec.LookPath(name)
}

// mode is where the entry goes: into a file of its own if all runtimes of the node
// read such files.
func (r *runtimes) mode() conflist.Mode {
	if r.dropIns {
		return conflist.DropIn
	}
	return conflist.Append
}

// release is a version: major, minor, patch.
type release [3]int

func (r release) before(other release) bool {
	for i := range r {
		if r[i] != other[i] {
			return r[i] < other[i]
		}
	}
	return false
}

// parseRelease finds the first version in what a program says of itself. A
// pre-release, such as 2.1.0-rc.1, does not count as that release.
func parseRelease(text string) (r release, ok bool) {
	version := regexp.MustCompile(`(?:^|[\s:v])(\d+)\.(\d+)\.(\d+)(-(?:alpha|beta|rc|dev))?`)
	m := version.FindStringSubmatch(text)
	if m == nil {
		return release{}, false
	}
	for i := range r {
		n, err := strconv.Atoi(m[i+1])
		if err != nil {
			return release{}, false
		}
		r[i] = n
	}
	return r, m[4] == ""
}
