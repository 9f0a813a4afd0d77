// SPDX-License-Identifier: Apache-2.0

package node

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
)

func TestUpgrade(t *testing.T) {
	type sent struct {
		pid int
		sig unix.Signal
	}
	for name, tt := range map[string]struct {
		supervisor fdstore.Supervisor
		fails      error
		want       sent
		code       api.Code
		names      string
	}{
		"supervised": {
			fdstore.Supervisor{Kind: fdstore.Supervise, PID: 99, Restarts: 2},
			nil,
			sent{99, unix.SIGUSR2},
			0, "",
		},
		"the supervisor is another process": {
			fdstore.Supervisor{Kind: fdstore.Supervise, PID: 98},
			nil,
			sent{},
			api.CodeNotSupervised, "98",
		},
		"not permitted": {
			fdstore.Supervisor{Kind: fdstore.Supervise, PID: 99},
			unix.EPERM,
			sent{99, unix.SIGUSR2},
			api.CodeInternal, "99",
		},
		"systemd": {
			fdstore.Supervisor{Kind: fdstore.Systemd, PID: 1},
			nil,
			sent{},
			api.CodeNotSupervised, "systemctl restart nsqueued",
		},
		"no supervisor": {
			fdstore.Supervisor{Kind: fdstore.None},
			nil,
			sent{},
			api.CodeNotSupervised, "nsqueued supervise",
		},
	} {
		var got sent
		err := upgrade(supervisorStatus(tt.supervisor), 99, func(pid int, sig unix.Signal) error {
			got = sent{pid, sig}
			return tt.fails
		})
		if got != tt.want {
			t.Errorf("%s: sent %+v, want %+v", name, got, tt.want)
		}
		if tt.code == 0 && err != nil || tt.code != 0 &&
			(api.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.names)) {
			t.Errorf("%s: %v, want code %d and %q", name, err, tt.code, tt.names)
		}
	}
}

func TestSupervisorStatus(t *testing.T) {
	for s, want := range map[fdstore.Supervisor]api.Supervisor{
		{}:                              {Kind: api.NoSupervisor},
		{Kind: fdstore.Systemd, PID: 1}: {Kind: api.Systemd, PID: 1},
		{Kind: fdstore.Supervise, PID: 9, Restarts: 3}: {Kind: api.Supervise, PID: 9, Restarts: 3},
	} {
		if got := supervisorStatus(s); got != want {
			t.Errorf("%+v is %+v, want %+v", s, got, want)
		}
	}
}
