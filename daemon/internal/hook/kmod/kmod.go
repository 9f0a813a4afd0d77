// SPDX-License-Identifier: Apache-2.0

// Package kmod is the hook that consists of nsqueue.ko, told by its sysctls in
// each netns. The module's README documents the interface.
package kmod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

const (
	// Versions of the module's interface that this package knows. The first
	// one has no settled flows.
	firstInterface  = 1
	settleInterface = 2

	modulePath = "/sys/module/nsqueue"
	// The thread's own, because /proc/net and /proc/sys show what the netns of
	// the thread that looks is.
	procPath = "/proc/thread-self/net/nsqueue"
)

// DefaultSysctls is where the sysctls of the network are. In a container they are
// read-only there, and the node's can be mounted elsewhere: either shows the netns of the
// thread that looks.
const DefaultSysctls = "/proc/sys/net"

// Loaded reports whether the module is there.
func Loaded() bool {
	_, err := os.Stat(modulePath)
	return err == nil
}

// Hook uses the loaded module. See [hook.Hook].
type Hook struct {
	version string
	settles bool
	sysctls string // the directory of the module's
}

// New checks that the loaded module is one that this package knows, and can be told what
// to do in the directory of the network's sysctls.
func New(sysctls string) (*Hook, error) {
	text, err := os.ReadFile(procPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("module nsqueue is not loaded: %w", hook.ErrNotSupported)
	}
	if err != nil {
		return nil, err
	}
	state, err := parse(text)
	if err != nil {
		return nil, err
	}
	if !known(state.version) {
		return nil, fmt.Errorf("module nsqueue has interface version %d, want %d to %d: %w",
			state.version, firstInterface, settleInterface, hook.ErrNotSupported)
	}
	version, err := os.ReadFile(modulePath + "/version")
	if err != nil {
		return nil, err
	}
	h := &Hook{
		version: strings.TrimSpace(string(version)), settles: state.version >= settleInterface,
		sysctls: filepath.Join(sysctls, "nsqueue"),
	}
	if err := writable(filepath.Join(h.sysctls, "enabled")); err != nil {
		return nil, err
	}
	return h, nil
}

// writable says what to do where a sysctl cannot be written to.
func writable(path string) error {
	err := unix.Access(path, unix.W_OK)
	if err == nil {
		return nil
	}
	err = &os.PathError{Op: "write to", Path: path, Err: err}
	if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: in a container, mount the node's /proc/sys/net elsewhere, and name "+
			"that directory in kmodSysctls: %w", err, hook.ErrNotSupported)
	}
	return err
}

// Settles reports whether the module can settle flows.
func (h *Hook) Settles() bool { return h.settles }

// Kind returns [hook.Module].
func (*Hook) Kind() hook.Kind { return hook.Module }

// Describe names the module's version.
func (h *Hook) Describe() string { return "nsqueue.ko " + h.version }

// Present reports whether the module is still loaded.
func (*Hook) Present() bool { return Loaded() }

// Persistent is true: the module needs no daemon.
func (*Hook) Persistent() bool { return true }

// Open remembers the netns and how far its counters are. The module needs no
// descriptor: an inherited one, of another kind of hook, is closed.
func (h *Hook) Open(ns *netns.NetNS, inherited *os.File) (hook.Handle, error) {
	if inherited != nil {
		if err := inherited.Close(); err != nil {
			return nil, fmt.Errorf("close inherited descriptor: %w", err)
		}
	}
	clone, err := ns.Clone()
	if err != nil {
		return nil, err
	}
	m := &module{ns: clone, sysctls: h.sysctls}
	s, err := read(m.ns)
	if err != nil {
		return nil, errors.Join(err, clone.Close())
	}
	m.before, m.settles = s.counters, s.version >= settleInterface
	return m, nil
}

// module is the hook in one netns.
type module struct {
	ns      *netns.NetNS
	sysctls string
	before  hook.Counters
	// settles says whether the module can.
	settles bool
	// armed says whether flows are settled by what this handle armed, keeps whether those
	// of an earlier process stay settled.
	armed, keeps bool
}

// setting is a sysctl and its value.
type setting struct{ name, value string }

// settings returns the sysctls of a selector. They can be written in this order
// where there are not more queues than before: the sum of count and number is
// limited. Of what settles flows the generation comes last, so that no request
// settles a flow before all is as wanted.
func (m *module) settings(s *hook.Selector) []setting {
	all := []setting{
		{"queue_count", strconv.Itoa(s.Count())},
		{"queue_num", strconv.Itoa(int(s.Queue))},
		{"bypass", flag(s.Bypass)},
		{"directions", directions(s.Directions)},
		{"protocols", protocols(s.Protocols)},
	}
	if !m.settles {
		return all
	}
	if s.Settle.On() {
		ms := s.Settle.Timeout.Round(time.Millisecond).Milliseconds()
		all = append(all,
			setting{"settle_timeout", strconv.FormatInt(ms, 10)},
			setting{"settle_size", strconv.FormatUint(uint64(s.Settle.Size), 10)})
	}
	return append(all, setting{"generation", strconv.Itoa(int(s.Settle.Generation))})
}

// always reports whether the setting is to be written even where it is as
// wanted: what an earlier process has settled is to be looked at again.
func (m *module) always(want setting) bool {
	return want.name == "generation" && want.value != "0" && !m.armed && !m.keeps
}

// Arm writes what differs from the kernel's settings and arms last. Each write
// is atomic; where one fails, those before it are taken back. There is no
// warning: no other program can hold the module's place in a netns.
func (m *module) Arm(s hook.Selector) (warning, err error) { return nil, m.arm(&s) }

func (m *module) arm(s *hook.Selector) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if s.Settle.On() && !m.settles {
		return fmt.Errorf("settled flows in this module nsqueue: %w", hook.ErrNotSupported)
	}
	count, err := m.sysctl("queue_count")
	if err != nil {
		return fmt.Errorf("arm: %w", err)
	}
	wanted := append(m.settings(s), setting{"enabled", "1"})
	if before, err := strconv.Atoi(count); err == nil && before < s.Count() {
		wanted[0], wanted[1] = wanted[1], wanted[0]
	}
	if err := m.learn(s); err != nil {
		return fmt.Errorf("arm: %w", err)
	}
	var undo []setting
	for _, want := range wanted {
		old, err := m.sysctl(want.name)
		if err == nil && (m.always(want) || normal(want.name, old) != want.value) {
			undo = append([]setting{{want.name, old}}, undo...)
			err = m.write(want)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("arm: %w", err), m.writeAll(undo))
		}
	}
	m.armed = true
	return nil
}

// learn finds out whether the flows that are settled are to be kept: not those of a
// netns that was disarmed meanwhile, whose connections the module has not seen.
func (m *module) learn(s *hook.Selector) error {
	m.keeps = false
	if m.armed || !s.KeepSettled {
		return nil
	}
	enabled, err := m.sysctl("enabled")
	m.keeps = err == nil && enabled == "1"
	return err
}

// Disarm lets packets pass; the module waits for those under way.
func (m *module) Disarm() error {
	err := m.write(setting{"enabled", "0"})
	if errors.Is(err, fs.ErrNotExist) { // the module is gone, and its hook
		return nil
	}
	return err
}

// DisarmEnded does the same: the module decides for itself how it waits.
func (m *module) DisarmEnded() error { return m.Disarm() }

// Verify compares the kernel's settings with s.
func (m *module) Verify(at netns.Place, s hook.Selector) error {
	state, err := read(at)
	if err != nil {
		return fmt.Errorf("%w: %w", hook.ErrNotArmed, err)
	}
	if s.Settle.On() && !m.settles {
		return fmt.Errorf("%w: this module nsqueue settles no flows", hook.ErrNotArmed)
	}
	want := append(m.settings(&s), setting{"enabled", "1"}, setting{"hooks", "yes"})
	for _, w := range want {
		if have := normal(w.name, state.values[w.name]); have != w.value {
			return fmt.Errorf("%w: %s is %q, want %q", hook.ErrNotArmed, w.name, have, w.value)
		}
	}
	return nil
}

// Counters returns what the module counted since Open.
func (m *module) Counters() (hook.Counters, error) {
	s, err := read(m.ns)
	if err != nil {
		return hook.Counters{}, err
	}
	return since(&m.before, s.counters), nil
}

// since returns by how much the counters have grown. A module that was loaded
// again has begun at zero, and so does before then.
func since(before *hook.Counters, now hook.Counters) hook.Counters {
	if now.Queued < before.Queued || now.Exempt < before.Exempt || now.Settled < before.Settled {
		*before = hook.Counters{}
	}
	return hook.Counters{
		Queued:  now.Queued - before.Queued,
		Exempt:  now.Exempt - before.Exempt,
		Settled: now.Settled - before.Settled,
	}
}

// Remove disarms; the module's hook stays in the netns, letting all pass.
func (m *module) Remove() error { return m.Disarm() }

// Close releases the netns and leaves it armed.
func (m *module) Close() error { return m.ns.Close() }

// File returns nil: nothing but the module keeps the hook.
func (*module) File() *os.File { return nil }

func read(at netns.Place) (state, error) {
	text, err := netns.ReadFile(at, procPath)
	if err != nil {
		return state{}, fmt.Errorf("read module state: %w", err)
	}
	return parse(text)
}

// sysctl returns the netns' own value; the state shows effective ones.
func (m *module) sysctl(name string) (string, error) {
	text, err := netns.ReadFile(m.ns, filepath.Join(m.sysctls, name))
	return strings.TrimSpace(string(text)), err
}

func (m *module) write(s setting) error {
	return m.ns.Do(func() error {
		return os.WriteFile(filepath.Join(m.sysctls, s.name), []byte(s.value), 0)
	})
}

func (m *module) writeAll(settings []setting) error {
	var errs []error
	for _, s := range settings {
		errs = append(errs, m.write(s))
	}
	return errors.Join(errs...)
}

func flag(on bool) string {
	if on {
		return "1"
	}
	return "0"
}

func directions(d hook.Directions) string {
	if d == hook.AllDirections {
		return "all"
	}
	var names []string
	for _, p := range []struct {
		bit  hook.Directions
		name string
	}{{hook.In, "in"}, {hook.Out, "out"}, {hook.Forward, "forward"}} {
		if d&p.bit != 0 {
			names = append(names, p.name)
		}
	}
	return strings.Join(names, ",")
}

// normal returns a value as this package writes it: the module shows the names
// of protocols that have one.
func normal(name, value string) string {
	if name != "protocols" || value == "all" {
		return value
	}
	var numbers []uint8
	for word := range strings.SplitSeq(value, ",") {
		n, ok := inspect.ProtocolNumber(word)
		if !ok {
			return value
		}
		numbers = append(numbers, n)
	}
	return protocols(numbers)
}

func protocols(numbers []uint8) string {
	if len(numbers) == 0 {
		return "all"
	}
	sorted := slices.Compact(slices.Sorted(slices.Values(numbers)))
	names := make([]string, len(sorted))
	for i, n := range sorted {
		names[i] = strconv.Itoa(int(n))
	}
	return strings.Join(names, ",")
}
