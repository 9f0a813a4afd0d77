// SPDX-License-Identifier: Apache-2.0

package node

import (
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
)

// supervisorStatus is what the API tells of the supervisor.
func supervisorStatus(s fdstore.Supervisor) api.Supervisor {
	kinds := map[string]api.SupervisorKind{
		fdstore.Systemd: api.Systemd, fdstore.Supervise: api.Supervise,
	}
	kind, ok := kinds[s.Kind]
	if !ok {
		return api.Supervisor{Kind: api.NoSupervisor}
	}
	return api.Supervisor{Kind: kind, PID: s.PID, Restarts: s.Restarts}
}

// upgrade asks the supervisor, which is the parent process, to execute what is
// installed by now.
func upgrade(s api.Supervisor, parent int, kill func(int, unix.Signal) error) error {
	switch {
	case s.Kind == api.Systemd:
		return api.Errorf(api.CodeNotSupervised, "upgrade: systemd runs this daemon: "+
			"`systemctl restart nsqueued` starts the new version, and keeps the queues meanwhile")
	case s.Kind != api.Supervise:
		return api.Errorf(api.CodeNotSupervised, "upgrade: this daemon has no supervisor: "+
			"stop it and start the new version, at best under `nsqueued supervise`")
	case s.PID != parent: // it died, and the number may be another process' by now
		return api.Errorf(api.CodeNotSupervised, "upgrade: the supervisor, process %d, is gone",
			s.PID)
	}
	if err := kill(s.PID, unix.SIGUSR2); err != nil {
		return api.Errorf(api.CodeInternal, "upgrade: signal process %d: %s", s.PID, err)
	}
	return nil
}
