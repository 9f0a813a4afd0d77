// SPDX-License-Identifier: Apache-2.0

// Command nsqueuectl is the operator's command. It shows what nsqueued inspects on
// this node, installs the CNI plugin, and attaches what no CNI plugin attaches.
//
// Each command is in a file of its own and gets everything that it touches
// from outside (streams, socket, clock), so that tests run it in memory.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/printable"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the program the hard way.
	defer context.AfterFunc(ctx, stop)()
	s := &IOStreams{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, now: time.Now, getenv: os.Getenv, root: "/",
		version: api.Version(), progressAfter: 2 * time.Second, nice: niceThreads,
		width:  func() int { return text.TerminalWidth(os.Stdout) },
		height: func() int { return text.TerminalHeight(os.Stdout) },
	}
	return execute(ctx, s, os.Args[1:])
}

// IOStreams is what the commands touch besides the daemon.
type IOStreams struct {
	// in is read by no command; its end may be that of one.
	in io.Reader
	// out and err are for text. They escape what is not printable, such as escape
	// sequences in a name.
	out, err io.Writer
	// raw is out for binary data, and for the program's own escape sequences.
	raw    io.Writer
	now    func() time.Time
	getenv func(string) string
	// version is what doctor compares the versions of other programs with.
	version string
	// progressAfter is how long a command may work in silence; 0 means without limit.
	progressAfter time.Duration
	// root is prepended to the paths of profiles.
	root string
	// nice, where it is set, lets other processes go first from then on.
	nice func()
	// width is how many columns out has where it is a terminal, else 0.
	width func() int
	// height is how many lines out has there, 0 where it is not known.
	height func() int
}

// The exit statuses.
const (
	statusOK          = 0
	statusFailed      = 1 // the daemon refused the call, or it failed
	statusUsage       = 2
	statusUnreachable = 3
)

// escaped returns streams that escape text, and a function that writes the rest.
func (s *IOStreams) escaped() (*IOStreams, func()) {
	e := *s
	out, err := printable.NewWriter(s.out), printable.NewWriter(s.err)
	e.raw, e.out, e.err = s.out, out, &lockedWriter{w: err}
	return &e, func() { _ = errors.Join(out.Close(), err.Close()) }
}

// execute runs one command line and returns its exit status.
func execute(ctx context.Context, s *IOStreams, args []string) int {
	s, closeText := s.escaped()
	defer closeText()
	cmd := newRoot(s)
	cmd.SetArgs(append([]string{}, args...)) // nil would mean those of the process
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return statusOK
	}
	status, hint := statusUsage, "See nsqueuectl --help."
	if failure, ok := errors.AsType[*failedError](err); ok {
		status, hint = failure.explain()
	}
	fmt.Fprintf(s.err, "nsqueuectl: %v\n", err)
	if hint != "" {
		fmt.Fprintln(s.err, hint)
	}
	return status
}

// failedError is an error that a command met when it ran. All others are about
// the command line.
type failedError struct{ cause error }

func (e *failedError) Error() string { return e.cause.Error() }

func (e *failedError) Unwrap() error { return e.cause }

// explain returns the exit status and what the operator could do.
func (e *failedError) explain() (status int, hint string) {
	if own, ok := errors.AsType[*statusError](e.cause); ok {
		return own.status, ""
	}
	switch {
	case errors.Is(e.cause, errUsage):
		return statusUsage, "See nsqueuectl --help."
	case !errors.Is(e.cause, api.ErrUnavailable):
		return statusFailed, ""
	case errors.Is(e.cause, syscall.EACCES):
		return statusUnreachable, "Only root may use this socket: run nsqueuectl as root. " +
			"Members of the group of\nobserve.sock, in the same directory, may look without root " +
			"(--socket .../observe.sock)."
	case errors.Is(e.cause, io.EOF), errors.Is(e.cause, syscall.EPIPE),
		errors.Is(e.cause, syscall.ECONNRESET):
		return statusUnreachable, "nsqueued closed the connection: it stopped, or it serves " +
			"another user.\nSee its log, and run nsqueuectl as the user that nsqueued runs as."
	}
	return statusUnreachable, "Is nsqueued running on this node? Start it, or name its socket " +
		"with --socket or\nNSQUEUE_SOCKET."
}

// errUsage is in the chain of usage errors that the command itself finds.
var errUsage = errors.New("wrong usage")

func usageErrorf(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func (e *usageError) Unwrap() error { return errUsage }

// command is one call of a command: what it was given and what it may use.
type command struct {
	*IOStreams
	client *api.Client
	socket string
	output string
}

// printer prints what the command has found.
func (c *command) printer() text.Printer {
	return text.Printer{Out: c.out, Width: c.width, Format: c.output}
}

// printLine prints one line, with line breaks in it escaped.
func (c *command) printLine(format string, args ...any) error {
	_, err := fmt.Fprintln(c.out, printable.Line(fmt.Sprintf(format, args...)))
	return err
}

const rootHelp = `nsqueuectl shows and controls nsqueued, the daemon that reads the NFQUEUE of
every pod netns on this node.

Exit status:
  0  success
  1  nsqueued refused the call, the call failed, doctor found something wrong,
     or rules refuse what was tried
  2  wrong usage
  3  nsqueued could not be reached`

// newRoot returns the command tree.
func newRoot(s *IOStreams) *cobra.Command {
	all := &globalFlags{socket: api.DefaultSocket}
	if v := s.getenv("NSQUEUE_SOCKET"); v != "" {
		all.socket = v
	}
	root := &cobra.Command{
		Use:           "nsqueuectl",
		Short:         "Show and control what nsqueued inspects on this node",
		Long:          rootHelp,
		Version:       api.Version(),
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetVersionTemplate("nsqueuectl {{.Version}}\n")
	root.PersistentFlags().StringVar(&all.socket, "socket", all.socket,
		"`PATH` of nsqueued's socket (environment: NSQUEUE_SOCKET)\n")
	root.PersistentFlags().DurationVar(&all.keepalive, "keepalive", 0, keepaliveHelp)
	root.PersistentFlags().BoolVar(&all.endWithStdin, "end-with-stdin", false,
		"end when standard input does, as at the end of a\nconnection")
	for _, build := range []func(runner) *cobra.Command{
		newAdopt, newAttach, newAwaitNodes, newCapture, newDescribe, newDetach, newDoctor,
		newEvents, newInstall, newList, newLogLevel, newReady, newStats, newStatus, newUI,
		newUninstall, newUpgrade, newWatch,
	} {
		root.AddCommand(newCommand(s, all, build))
	}
	root.AddCommand(newRules(s, all), newVersion(s))
	return root
}

// globalFlags are those of all commands.
type globalFlags struct {
	socket       string
	keepalive    time.Duration
	endWithStdin bool
}

// newCommand returns a command with the flags that all of them have.
func newCommand(
	s *IOStreams, all *globalFlags, build func(runner) *cobra.Command,
) *cobra.Command {
	var output string
	cmd := build(func(ctx context.Context, f func(context.Context, *command) error) error {
		if !slices.Contains(text.Formats(), output) {
			return usageErrorf("output format %q: want table, wide, json or yaml", output)
		}
		if err := checkKeepalive(all.keepalive); err != nil {
			return err
		}
		defer s.keepAlive(all.keepalive)()
		if all.endWithStdin {
			var stop func()
			ctx, stop = s.untilEnd(ctx)
			defer stop()
		}
		err := f(ctx, &command{
			IOStreams: s, client: api.NewClient(all.socket), socket: all.socket, output: output,
		})
		if err != nil {
			return &failedError{err}
		}
		return nil
	})
	cmd.Flags().StringVarP(&output, "output", "o", text.Formats()[0],
		strings.Join(text.Formats(), "|"))
	completeFlag(cmd, "output", words(text.Formats()...))
	return cmd
}

// runner runs a command's function with what the global flags say.
type runner func(ctx context.Context, f func(context.Context, *command) error) error

func newVersion(s *IOStreams) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version of nsqueuectl",
		Example: "  nsqueuectl version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(s.out, "nsqueuectl", api.Version())
			return err
		},
	}
}
