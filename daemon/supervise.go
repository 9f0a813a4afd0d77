// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
	"github.com/nsqueue/nsqueue/daemon/internal/supervise"
	"github.com/nsqueue/nsqueue/daemon/node"
)

const superviseHelp = `Run nsqueued under a parent process that keeps the pods' queues open while
nsqueued restarts. This is for systems without systemd, such as a container;
see deploy/systemd for the others. What follows -- are nsqueued's flags.

A daemon that dies is started again, at once the first time; one that is silent
for longer than --watchdog is aborted and started again. While no daemon can be
started soon, pods under failure policy Ignore get their network back, uninspected;
the descriptors of those under Fail are kept until this process ends.

Signals:
  SIGTERM, SIGINT  stop the daemon, then end with its exit code
  SIGHUP           is passed on
  SIGUSR2          upgrade: stop the daemon, execute the program file again in
                   this process and start its daemon; no packet is lost
                   (also: nsqueuectl upgrade)

If this process is killed alone, the daemon stops in order.

With --handover-dir, supervisors follow each other without losing a packet, also
those of two containers, which share only that directory and the daemon's. The one
that starts prepares a daemon, takes everything from the active one, and is the
active one; the other stays as a standby. At SIGTERM an active supervisor gives to a
standby, or waits up to --linger for another one to take over. If none comes, pods
under Ignore get their network back, those under Fail are cut off until the next
start. A second SIGTERM ends the waiting. There is no SIGUSR2 then: start the new
version beside the old one.`

func superviseCommand() *cobra.Command {
	c := supervise.DefaultConfig()
	c.Version, c.StateVersion = api.Version(), state.Version
	formats := false
	format := node.LogText
	cmd := &cobra.Command{
		Use:   supervise.Command + " [flags] -- [nsqueued's flags]",
		Short: "Run nsqueued, restart it when it dies, and upgrade it, without losing a packet",
		Long:  superviseHelp,
		Example: `  nsqueued supervise -- --config /etc/nsqueue/nsqueued.yaml
  nsqueued supervise --runtime-dir /run/nsqueue-pod --handover-dir /run/nsqueue \
      --linger 20s --max-deaths 0 -- --config /etc/nsqueue/nsqueued.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if formats {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), supervise.HandoverFormats())
				return err
			}
			c.Args = args
			log, err := node.NewLog(os.Stderr, format)
			if err != nil {
				return err
			}
			return supervise.Run(c, log.With(slog.String("process", "supervisor")))
		},
	}
	f := cmd.Flags()
	// For a supervisor that considers this program as its successor.
	f.BoolVar(&formats, supervise.FormatFlag, false, "print the handover's formats that are read")
	if err := f.MarkHidden(supervise.FormatFlag); err != nil {
		panic(err) // there is no such flag
	}
	f.StringVar(&format, "log-format", format, "text or json; nsqueued has a flag of its own")
	f.StringVar(&c.RuntimeDir, "runtime-dir", c.RuntimeDir,
		"`directory` of the notification socket; one supervisor at a time")
	f.StringVar(&c.Worker, "worker", "",
		"`program` to run instead of nsqueued: a daemon of your own on daemon/node")
	f.IntVar(&c.MaxDescriptors, "max-descriptors", c.MaxDescriptors,
		"`number` of descriptors to keep, two or more a pod")
	f.DurationVar(&c.Watchdog, "watchdog", c.Watchdog,
		"how long the daemon may be silent, 0s is for ever")
	f.DurationVar(&c.StartTimeout, "start-timeout", c.StartTimeout,
		"how long the daemon may take to be ready")
	f.DurationVar(&c.StopTimeout, "stop-timeout", c.StopTimeout,
		"how long it may take to stop, before it is killed")
	f.DurationVar(&c.AbortGrace, "abort-grace", c.AbortGrace,
		"how long it may take to die of SIGABRT when it hangs, before it is killed")
	f.IntVar(&c.MaxDeaths, "max-deaths", c.MaxDeaths,
		"`number` of deaths within --death-window after which to give up, 0 is never")
	f.DurationVar(&c.DeathWindow, "death-window", c.DeathWindow,
		"see --max-deaths; a daemon that lives for longer starts afresh")
	f.StringVar(&c.HandoverDir, "handover-dir", "",
		"`directory` that this supervisor shares with those before and after it")
	f.DurationVar(&c.Linger, "linger", 0,
		"how long to serve after SIGTERM until a successor has taken over")
	f.StringVar(&c.Instance, "instance", "",
		"`name` of the installation, NAMESPACE/RELEASE; only supervisors of one follow each other")
	return cmd
}
