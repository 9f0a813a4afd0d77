// SPDX-License-Identifier: Apache-2.0

package netns

import "strings"

// Paths returns the path and the other one by which the same file may be found:
// /run and /var/run are one directory on every node, but maybe not in a container.
func Paths(path string) []string {
	switch {
	case path == "":
		return nil
	case strings.HasPrefix(path, "/run/"):
		return []string{path, "/var" + path}
	case strings.HasPrefix(path, "/var/run/"):
		return []string{path, strings.TrimPrefix(path, "/var")}
	}
	return []string{path}
}
