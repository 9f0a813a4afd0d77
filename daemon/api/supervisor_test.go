// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// A supervisor that is stopped accepts nobody, and its kernel does.
func TestAskSupervisorThatHangs(t *testing.T) {
	dir := filepath.Dir(apitest.SocketPath(t))
	l, err := net.Listen("unix", api.SupervisorSocket(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("too late"))
	_, err = api.AskSupervisor(ctx, dir)
	if !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("a call that has ended: %v", err)
	}
	ctx, end := context.WithTimeout(t.Context(), 1)
	defer end()
	if _, err = api.AskSupervisor(ctx, dir); !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("a call that ends: %v", err)
	}
}

func FuzzSupervisorState(f *testing.F) {
	f.Add([]byte(`{"version":"v1","pid":1,"role":"active","worker":{"pid":2,"ready":true}}`))
	f.Add([]byte(`{"role":"standby","restarts":-1}`))
	f.Add([]byte(`{"role":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := api.ParseSupervisorState(b)
		if err != nil {
			if !errors.Is(err, api.ErrUnavailable) {
				t.Errorf("error %v does not say that the state is not known", err)
			}
			return
		}
		if s.Serves() && s.Ready() != nil {
			t.Errorf("%+v serves, and is not ready", s)
		}
		if s.Ready() == nil && s.Role != api.RoleActive && s.Role != api.RoleStandby {
			t.Errorf("%+v is ready", s)
		}
	})
}
