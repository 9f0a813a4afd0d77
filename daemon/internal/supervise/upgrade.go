// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Asking a program for the formats of the handover that it reads: it prints
// them in a line, see [HandoverFormats]. A newer program that reads more lists
// more, so that older ones find theirs.
const (
	Command    = "supervise"
	FormatFlag = "handover-format"
)

// HandoverFormats is this program's answer.
func HandoverFormats() string { return strconv.Itoa(handoverVersion) }

// askTimeout bounds how long a new program may take to answer. On a busy node,
// where many pods start, each of the two questions takes some seconds.
const askTimeout = 15 * time.Second

// upgrade begins to replace the daemon and this process.
func (s *supervisor) upgrade() error {
	if s.shared != nil {
		s.log.Error("upgrade refused: this supervisor hands over to another one; start the new " +
			"version beside it, with the same --handover-dir")
		return nil
	}
	version, err := s.askSuccessor()
	if err != nil {
		s.log.Error("upgrade refused: the daemon goes on as it is", slog.Any("error", err))
		return s.receiveAll() // the watchdog must know of its signs of life meanwhile
	}
	s.log.Info("upgrading", slog.String("version", version), slog.Int("descriptors",
		len(s.store.held)))
	s.goal = toUpgrade
	s.stopWorker()
	return nil
}

// askSuccessor asks the program at the executable's path for its version. One
// that cannot even tell that must not replace this one, and neither must one
// that does not understand what it would be handed: once it runs, no
// process is left to take the descriptors back.
func (s *supervisor) askSuccessor() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	version, err := s.ask(ctx, "--version")
	if err != nil {
		return "", err
	}
	formats, err := s.ask(ctx, Command, "--"+FormatFlag)
	if err != nil {
		return "", fmt.Errorf("%s may not understand the handover: %w", version, err)
	}
	if !slices.Contains(strings.Fields(formats), HandoverFormats()) {
		return "", fmt.Errorf("%s understands handover format %.64q, and this version writes %s: "+
			"stop this one and start that one", version, formats, HandoverFormats())
	}
	return version, nil
}

// ask returns the one line that the program prints.
func (s *supervisor) ask(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.executable, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	command := s.executable + " " + strings.Join(args, " ")
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && len(exit.Stderr) > 0 {
			err = fmt.Errorf("%w: %.200s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("ask %s: %w", command, err)
	}
	line := strings.TrimSpace(string(out))
	if line == "" || strings.Contains(line, "\n") {
		return "", fmt.Errorf("%s printed %.64q: want one line", command, out)
	}
	return line, nil
}
