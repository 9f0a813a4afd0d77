// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"github.com/nsqueue/nsqueue/internal/unixsocket"
)

// Listen makes the socket at path, readable and writable by the owner only,
// from the first moment on. A missing directory is made with mode 0711. A
// socket that no process serves is replaced; one that is served is an error, and
// so is a file that is no socket.
func Listen(path string) (*net.UnixListener, error) { return unixsocket.Listen("unix", path) }

// ObserverSocket is where a daemon whose API is at the socket serves observers,
// which may only look.
func ObserverSocket(socket string) string {
	return filepath.Join(filepath.Dir(socket), "observe.sock")
}

// ListenObservers is Listen for observers: a group, by its ID, may
// connect as well, unless it is negative.
func ListenObservers(path string, group int) (*net.UnixListener, error) {
	l, err := Listen(path)
	if err != nil {
		return nil, err
	}
	if err := unixsocket.Admit(path, -1, group); err != nil {
		return nil, errors.Join(fmt.Errorf("let group %d connect: %w", group, err), l.Close())
	}
	return l, nil
}

// MakeSocketDir makes the directory of the socket where it is missing, with
// mode 0711. It leaves the mode of a directory that exists alone.
func MakeSocketDir(dir string) error { return unixsocket.MakeDir(dir) }
