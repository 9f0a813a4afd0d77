// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"os"

	"github.com/nsqueue/nsqueue/daemon/internal/program"
)

// worker is what reads the queues of a keeper: a process that was started for it, or an
// inspector that runs anyway and has a socket of the keeper's.
type worker interface {
	// pid is its process, and start when that began, 0 where it does not matter.
	pid() int
	start() uint64
	// find looks what it has bound.
	find() (program.Binding, error)
	// wait returns when it has ended, and says how.
	wait() string
	// terminate asks it to end, kill ends it.
	terminate() error
	kill() error
	// end removes what is left of one that has ended.
	end() error
	// close lets go of it, which goes on.
	close() error
	// adopted is what it prints, where an earlier daemon has begun to read that; else nil.
	adopted() *os.File
}

// started is a process that was started.
type started struct {
	keeper  *Keeper
	process *program.Process
}

func (s started) pid() int      { return s.process.PID }
func (s started) start() uint64 { return s.process.Start }

func (s started) find() (program.Binding, error) {
	return s.keeper.config.Spec.Find(s.keeper.ns, s.process)
}

func (s started) wait() string {
	text, _ := s.process.Wait()
	return text
}

func (s started) terminate() error { return s.process.Terminate() }
func (s started) kill() error      { return s.process.Kill() }
func (s started) end() error       { return s.keeper.programs.remove(s.keeper.group) }
func (s started) close() error     { return s.process.Close() }

func (s started) adopted() *os.File {
	if s.process.IsChild() {
		return nil
	}
	return s.process.Output()
}
