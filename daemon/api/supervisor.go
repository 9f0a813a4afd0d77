// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
)

// SupervisorRole says what a supervisor does on its node.
type SupervisorRole string

// The roles. A supervisor alone on its node is active from its first moment on.
const (
	// RoleFresh: it has neither run a daemon nor taken anything over so far.
	RoleFresh SupervisorRole = "fresh"
	// RoleTaking: it takes over from the active one, or has asked to.
	RoleTaking SupervisorRole = "taking"
	// RoleActive: the pods of the node are its daemon's.
	RoleActive SupervisorRole = "active"
	// RoleStandby: it has handed over, and waits until it may have to take over again.
	RoleStandby SupervisorRole = "standby"
)

// SupervisorState is what `nsqueued supervise` says of itself to who asks at its socket.
type SupervisorState struct {
	Version string         `json:"version"`
	PID     int            `json:"pid"`
	Role    SupervisorRole `json:"role"`
	// Worker is the daemon that it runs, absent where there is none.
	Worker *WorkerState `json:"worker,omitempty"`
	// Restarts of daemons that had died.
	Restarts int `json:"restarts"`
	// Descriptors are how many it keeps.
	Descriptors int `json:"descriptors"`
	// Retired: its installation leaves the node.
	Retired bool `json:"retired,omitempty"`
}

// WorkerState is a daemon as its supervisor sees it.
type WorkerState struct {
	PID int `json:"pid"`
	// Ready: it has taken up the pods of the daemon before it, and answers calls.
	Ready bool `json:"ready"`
}

// Serves reports whether the supervisor's own daemon is the one of the node, and is
// ready.
func (s *SupervisorState) Serves() bool {
	return s.Role == RoleActive && s.Worker != nil && s.Worker.Ready
}

// Ready returns why nobody may rely on the supervisor yet, or nil. One that stands by is
// ready: who ended it for not being so would end what can take over again.
func (s *SupervisorState) Ready() error {
	switch {
	case s.Role == RoleStandby, s.Serves():
		return nil
	case s.Role != RoleActive:
		return fmt.Errorf("the supervisor is %s", s.Role)
	case s.Worker == nil:
		return errors.New("no nsqueued runs")
	}
	return fmt.Errorf("nsqueued (process %d) is starting", s.Worker.PID)
}

// SupervisorSocket is where a supervisor with this runtime directory answers.
func SupervisorSocket(runtimeDir string) string { return filepath.Join(runtimeDir, "state.sock") }

// maxSupervisorState is far more than a supervisor says.
const maxSupervisorState = 64 << 10

// AskSupervisor asks the supervisor with this runtime directory for its state. Its error
// matches [ErrUnavailable].
func AskSupervisor(ctx context.Context, runtimeDir string) (SupervisorState, error) {
	socket := SupervisorSocket(runtimeDir)
	b, err := readAnswer(ctx, socket)
	if err != nil {
		return SupervisorState{}, fmt.Errorf("%w: its supervisor at %s: %w",
			ErrUnavailable, socket, err)
	}
	return parseSupervisorState(b)
}

// readAnswer returns what the process at a socket says to who asks nothing.
func readAnswer(ctx context.Context, socket string) ([]byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	b, err := io.ReadAll(io.LimitReader(conn, maxSupervisorState))
	if ctx.Err() != nil {
		return nil, fmt.Errorf("it does not answer: %w", context.Cause(ctx))
	}
	return b, err
}

func parseSupervisorState(b []byte) (SupervisorState, error) {
	var s SupervisorState
	if err := json.Unmarshal(b, &s); err != nil {
		return SupervisorState{}, fmt.Errorf("%w: read its supervisor's answer: %w",
			ErrUnavailable, err)
	}
	if s.Role == "" {
		return SupervisorState{}, fmt.Errorf("%w: its supervisor's answer has no role",
			ErrUnavailable)
	}
	return s, nil
}
