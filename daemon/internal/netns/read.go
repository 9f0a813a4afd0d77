// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// ReadFile returns what a file of /proc holds for the place. It is os.ReadFile
// with half of its system calls: looking into a thousand netns is nothing but
// this.
func ReadFile(at Place, path string) ([]byte, error) {
	var text []byte
	err := at.Do(func() error {
		var err error
		text, err = readFile(path)
		return err
	})
	return text, err
}

func readFile(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	text := make([]byte, 0, 1024)
	for {
		if len(text) == cap(text) {
			text = append(text, 0)[:len(text)]
		}
		n, err := unix.Read(fd, text[len(text):cap(text)])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return text, nil
		default:
			text = text[:len(text)+n]
		}
	}
}
