// SPDX-License-Identifier: Apache-2.0

//go:build vm

package vm

import (
	"fmt"
	"io"
	"path"
)

// A cpio writes the "newc" archive that the kernel unpacks as its first root.
type cpio struct {
	w    io.Writer
	size int
	dirs map[string]bool
	ino  int
	err  error
}

const (
	modeDir  = 0o040755
	modeFile = 0o100755
	modeLink = 0o120777
	modeChar = 0o020600
)

func newCPIO(w io.Writer) *cpio {
	return &cpio{w: w, dirs: map[string]bool{".": true, "/": true}}
}

func (c *cpio) file(name string, data []byte) { c.add(name, modeFile, data, 0, 0) }

func (c *cpio) link(name, to string) { c.add(name, modeLink, []byte(to), 0, 0) }

func (c *cpio) dir(name string) {
	if c.dirs[name] {
		return
	}
	c.dir(path.Dir(name))
	c.dirs[name] = true
	c.entry(name, modeDir, nil, 0, 0)
}

// console is what the kernel opens for its first process.
func (c *cpio) console() { c.add("dev/console", modeChar, nil, 5, 1) }

// close ends the archive and returns the first error of all the writes.
func (c *cpio) close() error {
	c.entry("TRAILER!!!", 0, nil, 0, 0)
	return c.err
}

func (c *cpio) add(name string, mode int, data []byte, major, minor int) {
	c.dir(path.Dir(name))
	c.entry(name, mode, data, major, minor)
}

func (c *cpio) entry(name string, mode int, data []byte, major, minor int) {
	c.ino++
	c.printf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		c.ino, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0)
	c.printf("%s\x00", name)
	c.pad()
	c.write(data)
	c.pad()
}

func (c *cpio) printf(format string, args ...any) {
	c.write(fmt.Appendf(nil, format, args...))
}

func (c *cpio) pad() { c.write(make([]byte, -c.size&3)) }

func (c *cpio) write(data []byte) {
	if c.err != nil {
		return
	}
	_, c.err = c.w.Write(data)
	c.size += len(data)
}
