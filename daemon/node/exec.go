// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/cgroup"
	"github.com/nsqueue/nsqueue/daemon/internal/external"
	"github.com/nsqueue/nsqueue/daemon/internal/program"
	"github.com/nsqueue/nsqueue/daemon/internal/programs"
)

// ExecConfig is a program that reads a queue by itself, once for each pod and in its netns.
type ExecConfig struct {
	// Command is the program's absolute path, and its arguments. In these and in env,
	// ${QUEUE}, ${QUEUES}, ${POD_NAMESPACE}, ${POD_NAME}, ${POD_UID} and ${NETNS} are
	// replaced, and $$ is a dollar sign. Required.
	Command []string `json:"command"`
	// Env are environment variables. The program has PATH, HOME and these.
	Env map[string]string `json:"env,omitempty"`
	// Queue is the number that the program binds. nsqueued's own queues begin at 180 then,
	// if they would have the same number. Required.
	Queue *uint16 `json:"queue"`
	// Queues is how many numbers from queue on the program binds; 0 means one. All packets of
	// a flow go to the same one.
	Queues uint16 `json:"queues,omitempty"`
	// Path is Behind: rules decide first, and the program reads what they accept; or Direct:
	// the kernel sends packets straight to the program, which saves half of the processor
	// time, and no rules are asked.
	Path string `json:"path,omitempty"`
	// Startup is Wait: a pod starts when the program reads its queue, 5 s later at most; or
	// Background: it starts at once.
	Startup   string        `json:"startup,omitempty"`
	User      ExecUser      `json:"user,omitzero"`
	Resources ExecResources `json:"resources,omitzero"`
	Restart   ExecRestart   `json:"restart,omitzero"`
}

// ExecUser is with which rights the program runs.
type ExecUser struct {
	// UID is the user; none means 65534 (nobody).
	UID *uint32 `json:"uid,omitempty"`
	// GID is the group; none means the number of the user.
	GID *uint32 `json:"gid,omitempty"`
	// Capabilities are all that the program ever has. Without CAP_NET_ADMIN it cannot read
	// a queue. None means just that one.
	Capabilities []string `json:"capabilities,omitempty"`
}

// ExecResources are limits of the program with all that it starts, in each pod.
type ExecResources struct {
	// Memory in bytes, or with Ki, Mi or Gi behind the number; empty means no limit. A
	// program that needs more is ended and started again.
	Memory string `json:"memory,omitempty"`
	// CPUWeight is its share of processor time where that is short, 1 to 10000; 0 means
	// 100, as all else. There is no limit: it would slow down the pod's network.
	CPUWeight uint64 `json:"cpuWeight,omitempty"`
	// PIDs is how many threads and processes it may have; 0 means no limit.
	PIDs int `json:"pids,omitempty"`
}

// ExecRestart is when a program is started again that has ended.
type ExecRestart struct {
	// Backoff is how long to wait before. It doubles with each end of a program that has
	// not run for 10 s. 0s means 200ms.
	Backoff Duration `json:"backoff,omitempty"`
	// Max is the longest wait; 0s means 30s.
	Max Duration `json:"max,omitempty"`
}

// How packets come to programs, and what pods wait for.
const (
	PathBehind        = "Behind"
	PathDirect        = "Direct"
	StartupWait       = "Wait"
	StartupBackground = "Background"
)

const (
	nobody             = 65534
	startupLimit       = 5 * time.Second
	defaultExecBudget  = time.Second
	defaultExecBackoff = 200 * time.Millisecond
	defaultExecMax     = 30 * time.Second
	// movedQueue is where nsqueued's queues begin that were in the way of a program's.
	movedQueue = 180
)

// config returns what the program is kept by. The fields of the inspector are effective.
func (c *ExecConfig) config(of *InspectorConfig) (*programs.Config, error) {
	spec, err := c.spec()
	if err != nil {
		return nil, err
	}
	p := &programs.Config{
		Name: of.Name, Spec: spec, Direct: c.Path == PathDirect,
		Budget:     time.Duration(of.Budget),
		Backoff:    cmp.Or(time.Duration(c.Restart.Backoff), defaultExecBackoff),
		MaxBackoff: cmp.Or(time.Duration(c.Restart.Max), defaultExecMax),
		Away:       away(of.OnFailure),
	}
	if cmp.Or(c.Startup, StartupWait) == StartupWait {
		p.Wait = startupLimit
	}
	return p, nil
}

func away(f OnFailure) programs.Away {
	switch f {
	case OnFailureAccept:
		return programs.AwayAccept
	case OnFailureDrop:
		return programs.AwayDrop
	case OnFailureRules:
		return programs.AwayRules
	}
	return programs.AwayPolicy
}

func (c *ExecConfig) spec() (program.Spec, error) {
	if c.Queue == nil {
		return program.Spec{}, at("queue", errors.New("want the number that the program binds"))
	}
	memory, err := parseBytes(c.Resources.Memory)
	if err != nil {
		return program.Spec{}, at("resources.memory", err)
	}
	capabilities, err := parseCapabilities(c.User.Capabilities)
	if err != nil {
		return program.Spec{}, at("user.capabilities", err)
	}
	s := program.Spec{
		Command: c.Command, Env: environment(c.Env), Queue: *c.Queue, Queues: max(c.Queues, 1),
		UID: nobody, Capabilities: capabilities,
		Limits: cgroup.Limits{
			Memory: memory, CPUWeight: c.Resources.CPUWeight, PIDs: c.Resources.PIDs,
		},
	}
	if c.User.UID != nil {
		s.UID = *c.User.UID
	}
	s.GID = s.UID
	if c.User.GID != nil {
		s.GID = *c.User.GID
	}
	return s, s.Validate()
}

// within puts the field in front of one that an error names.
func within(field string, err error) error {
	if inner, ok := errors.AsType[*fieldError](err); ok {
		return at(field+"."+inner.field, inner.err)
	}
	return at(field, err)
}

// makeExec makes the inspector that sends packets to programs.
func (o *outside) makeExec(one *InspectorConfig, entry *external.Entry) error {
	c, err := one.Exec.config(one)
	if err != nil {
		return err
	}
	if err := c.Spec.CheckFile(); err != nil {
		return fmt.Errorf("exec.command: %w", err)
	}
	entry.Inspector = programs.NewInspector(c)
	o.programs = append(o.programs, c)
	return nil
}

// programsOf returns the programs that run for an attachment.
func (o *outside) programsOf(label *inspect.Attachment) []*programs.Config {
	if o == nil {
		return nil
	}
	names := o.router.Names(label)
	var list []*programs.Config
	for _, c := range o.programs {
		if slices.Contains(names, c.Name) {
			list = append(list, c)
		}
	}
	return list
}

// programFDs is how many descriptors the programs of a pod take: a copy of each of their
// sockets, and for each program its process, what it prints, and the netns.
func (o *outside) programFDs() int {
	if o == nil {
		return 0
	}
	n := 0
	for _, c := range o.programs {
		n += 3 + int(c.Spec.Queues)
	}
	return n
}

// keepPrograms returns what keeps programs running. Without programs in the configuration
// it only ends those of an earlier one, where it can.
func (o *outside) keepPrograms(c *Config, log *slog.Logger) (*programs.Programs, error) {
	p, err := programs.New(programs.Options{Mounts: c.Cgroups, StateDir: c.StateDir, Log: log})
	switch {
	case err == nil || o == nil || len(o.programs) == 0:
		return p, nil
	case slices.ContainsFunc(c.Inspectors, func(i InspectorConfig) bool { return i.Exec != nil }):
		return nil, fmt.Errorf("programs of inspectors cannot run (cgroups): %w", err)
	}
	return programs.NewWithoutGroups(log), nil
}

// environment returns the variables in the order of their names.
func environment(values map[string]string) []string {
	var list []string
	for name, value := range values {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// validate says what is wrong with the program of an inspector, whose fields are effective.
func (c *ExecConfig) validate(field string, of *InspectorConfig) error {
	_, err := c.spec()
	errs := []error{
		within(field, err),
		at(field+".path", oneOf(c.Path, PathBehind, PathDirect)),
		at(field+".startup", oneOf(c.Startup, StartupWait, StartupBackground)),
		at(field+".restart", c.validateRestart()),
		at(field+".resources.cpuWeight", c.validateWeight()),
	}
	if c.Resources.PIDs < 0 {
		errs = append(errs, at(field+".resources.pids", errors.New("want a number of processes")))
	}
	if c.Path == PathDirect && of.Pods == nil {
		errs = append(errs, at(field+".path", errors.New("the value Direct is for pods that "+
			"the program reads whole: give the inspector pods")))
	}
	return errors.Join(errs...)
}

func (c *ExecConfig) validateRestart() error {
	if c.Restart.Backoff < 0 || c.Restart.Max < 0 {
		return errors.New("want times that are not negative")
	}
	return nil
}

func (c *ExecConfig) validateWeight() error {
	if c.Resources.CPUWeight > 10000 {
		return fmt.Errorf("%d: want 1 to 10000", c.Resources.CPUWeight)
	}
	return nil
}

func oneOf(value string, of ...string) error {
	if value == "" || slices.Contains(of, value) {
		return nil
	}
	return fmt.Errorf("%q: want %s", value, strings.Join(of, " or "))
}

// parseBytes reads a size; an empty one is 0.
func parseBytes(text string) (int64, error) {
	digits, shift := text, 0
	for suffix, bits := range map[string]int{"Ki": 10, "Mi": 20, "Gi": 30} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			digits, shift = rest, bits
		}
	}
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%q: want a number of bytes, such as 128Mi", text)
	}
	return n << shift, nil
}

// capabilityNames are those of linux/capability.h, by number.
const capabilityNames = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID " +
	"SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK " +
	"IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT " +
	"SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL " +
	"SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF " +
	"CHECKPOINT_RESTORE"

// parseCapabilities returns the numbers, in their order. None means CAP_NET_ADMIN.
func parseCapabilities(names []string) ([]uintptr, error) {
	if len(names) == 0 {
		names = []string{"CAP_NET_ADMIN"}
	}
	known := strings.Fields(capabilityNames)
	var list []uintptr
	for _, name := range names {
		i := slices.Index(known, strings.TrimPrefix(name, "CAP_"))
		if i < 0 {
			return nil, fmt.Errorf("%q: want names such as CAP_NET_ADMIN", name)
		}
		list = append(list, uintptr(i))
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// moveQueues moves nsqueued's own queues where programs read queues of the same numbers.
func (c *Config) moveQueues() {
	for _, first := range []uint16{c.Queue.Number, movedQueue} {
		c.Queue.Number = first
		for range maxInspectors {
			end, taken := c.programAt(c.Queue.Number, max(c.Queue.Count, 1))
			if !taken {
				return
			}
			if first != movedQueue {
				break
			}
			c.Queue.Number = end
		}
	}
}

// programAt returns where the queues of a program end that has one of so many, and false
// for none.
func (c *Config) programAt(first, count uint16) (end uint16, taken bool) {
	for i := range c.Inspectors {
		one := &c.Inspectors[i]
		var queue *uint16
		queues := uint16(1)
		switch {
		case one.Exec != nil:
			queue, queues = one.Exec.Queue, max(one.Exec.Queues, 1)
		case one.Descriptor != nil:
			queue = one.Descriptor.Queue
		}
		if queue != nil && int(*queue) < int(first)+int(count) &&
			int(first) < int(*queue)+int(queues) {
			return *queue + queues, true
		}
	}
	return 0, false
}
