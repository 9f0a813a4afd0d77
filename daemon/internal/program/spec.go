// SPDX-License-Identifier: Apache-2.0

// Package program starts programs of other people in the netns of pods, where they read
// queues as they would on any machine, finds out when they do, and ends them with all
// that they have started. It starts no goroutine, and knows no attachments.
package program

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/cgroup"
)

// Spec says which program, and with which rights.
type Spec struct {
	// Command is an absolute path, and arguments. In these, and in the values of Env,
	// placeholders such as ${QUEUE} are replaced.
	Command []string `json:"command"`
	// Env are variables, as NAME=value.
	Env []string `json:"env"`
	// Queue is the number that the program binds, of several the first one.
	Queue uint16 `json:"queue"`
	// Queues is how many numbers from Queue on it binds, at least one.
	Queues uint16 `json:"queues"`
	UID    uint32 `json:"uid"`
	GID    uint32 `json:"gid"`
	// Capabilities are all that it ever has, by number.
	Capabilities []uintptr     `json:"capabilities"`
	Limits       cgroup.Limits `json:"limits"`
}

// Pod is for whom a program runs.
type Pod struct{ Namespace, Name, UID, Netns string }

// Validate reports what cannot be started on any node.
func (s *Spec) Validate() error {
	if len(s.Command) == 0 || !filepath.IsAbs(s.Command[0]) {
		return errors.New("command: want an absolute path, and arguments")
	}
	if s.Queues == 0 || int(s.Queue)+int(s.Queues) > 1<<16 {
		return fmt.Errorf("%d queues from %d on: want at least one, and numbers below 65536",
			s.Queues, s.Queue)
	}
	for _, text := range append(s.Command[1:len(s.Command):len(s.Command)], s.Env...) {
		if _, err := s.expand(text, &Pod{}); err != nil {
			return err
		}
	}
	return nil
}

// Has reports whether the program is to bind a queue.
func (s *Spec) Has(number uint16) bool {
	return number >= s.Queue && number-s.Queue < s.Queues
}

// CheckFile reports that there is no such program that could be started.
func (s *Spec) CheckFile() error {
	path := s.Command[0]
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file", path)
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("%s may not be executed: chmod +x it", path)
	case unix.Access(path, unix.X_OK) != nil:
		return fmt.Errorf("%s may not be executed: is it mounted with noexec?", path)
	}
	return nil
}

// Placeholders returns the names of those that are replaced.
func Placeholders() []string {
	return []string{"QUEUE", "QUEUES", "POD_NAMESPACE", "POD_NAME", "POD_UID", "NETNS"}
}

// expand replaces the placeholders. $$ is a dollar sign.
func (s *Spec) expand(text string, pod *Pod) (string, error) {
	values := map[string]string{
		"QUEUE":         strconv.Itoa(int(s.Queue)),
		"QUEUES":        strconv.Itoa(int(s.Queues)),
		"POD_NAMESPACE": pod.Namespace, "POD_NAME": pod.Name, "POD_UID": pod.UID,
		"NETNS": pod.Netns,
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "$")
		b.WriteString(before)
		switch {
		case !found:
			return b.String(), nil
		case strings.HasPrefix(rest, "$"):
			b.WriteByte('$')
			text = rest[1:]
			continue
		case !strings.HasPrefix(rest, "{"):
			return "", fmt.Errorf("%q: a dollar sign is written $$", "$"+rest)
		}
		name, after, closed := strings.Cut(rest[1:], "}")
		value, known := values[name]
		if !closed || !known {
			return "", fmt.Errorf("%q is no placeholder: want ${%s}", "$"+rest,
				strings.Join(Placeholders(), "}, ${"))
		}
		b.WriteString(value)
		text = after
	}
}

// expandAll replaces the placeholders in a list, which Validate has seen.
func (s *Spec) expandAll(list []string, pod *Pod) ([]string, error) {
	all := make([]string, len(list))
	for i, text := range list {
		var err error
		if all[i], err = s.expand(text, pod); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Digest identifies what was started: another one means another program.
func (s *Spec) Digest() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // no field can fail
	}
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%x", sum[:8])
}
