// SPDX-License-Identifier: Apache-2.0

//go:build vm

package vm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// A guest is one boot: its kernel log goes to a file, the words of its init
// and of its programs come line by line.
type guest struct {
	arch    string
	vmlinuz string
	initrd  string
	log     string
}

// The console is the first serial port, the programs have the second: neither
// can tear the other's lines apart. A warning of the kernel ends the boot.
//
// Both processors share one thread of the host. With a thread for each, QEMU
// 7.2 runs code that a kernel changes on the fly (static keys, as with the first
// and the last hook of a kind) in a stale form: "Oops: int3", with and without
// this module. Interleaving is at every block of code, so races still show.
//
// Slabs are not merged: the module's has to be empty when the module goes, else
// the kernel warns.
func (g *guest) command(ctx context.Context) *exec.Cmd {
	program, console, args := "qemu-system-x86_64", "ttyS0", []string{"-serial", "stdio"}
	if g.arch == "arm64" { // whose board has one port, and a PCI bus for others
		program, console = "qemu-system-aarch64", "ttyAMA0"
		args = []string{
			"-machine", "virt", "-chardev", "stdio,id=programs",
			"-device", "pci-serial,chardev=programs",
		}
	}
	cmd := exec.CommandContext(ctx, program, "-accel", "tcg,thread=single",
		"-cpu", "max", "-smp", "2", "-m", "1024",
		"-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none",
		"-no-reboot", "-kernel", g.vmlinuz, "-initrd", g.initrd, "-serial", "file:"+g.log,
		"-append", "console="+console+" panic=-1 panic_on_warn=1 oops=panic"+
			" slab_nomerge mitigations=off loglevel=7 printk.time=1 printk.devkmsg=on")
	cmd.Args = append(cmd.Args, args...)
	cmd.Args = append(cmd.Args, strings.Fields(os.Getenv("NSQUEUE_VM_QEMU"))...)
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = 5 * time.Second
	// A test process that dies, also of its own timeout, leaves no guest.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// run boots and calls line for every line until the machine stops. A guest that
// is still there when ctx ends is killed, and that is the error.
func (g *guest) run(ctx context.Context, line func(string)) error {
	cmd := g.command(ctx)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start qemu: %w", err)
	}
	// The signal above comes when this very thread ends.
	runtime.LockOSThread() //nolint:forbidigo // no namespace: it only has to stay alive
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start qemu: %w", err)
	}
	readErr := readLines(stdout, line)
	waitErr := cmd.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("guest did not end in time: %w", context.Cause(ctx))
	}
	if waitErr != nil {
		return fmt.Errorf("qemu: %w", waitErr)
	}
	return readErr
}

func readLines(r io.Reader, line func(string)) error {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		line(strings.TrimRight(scanner.Text(), "\r"))
	}
	return scanner.Err()
}

// troubles are the words by which a kernel says that something is wrong with
// it. "Call Trace" alone would miss a WARNING that scrolled past its trace.
func troubles() []string {
	return []string{
		"WARNING:", "BUG:", "Oops", "Call Trace", "Kernel panic", "suspicious RCU",
		"possible recursive locking", "circular locking", "inconsistent lock state",
		"held lock freed", "scheduling while atomic", "sleeping function called",
		"refcount_t", "KASAN", "UBSAN", "general protection", "unreferenced object",
		"soft lockup", "hard LOCKUP", "rcu_preempt detected stalls", "rcu_sched detected stalls",
		"self-detected stall", "unregister_netdevice: waiting for", "leaked reference",
		"hung task", "blocked for more than", "invalid opcode", "Unable to handle",
	}
}

// kernelTroubles returns the lines of the kernel log that must not be there.
func kernelTroubles(log string) []string {
	var bad []string
	words := troubles()
	for line := range strings.SplitSeq(log, "\n") {
		for _, word := range words {
			if strings.Contains(line, word) {
				bad = append(bad, strings.TrimRight(line, "\r"))
				break
			}
		}
	}
	return bad
}
