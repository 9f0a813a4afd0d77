// SPDX-License-Identifier: Apache-2.0

// Rivals compares the rule engine alone, without queue and hook, with Suricata: both read
// the same captures with the same rules, and their processor time is compared.
//
// Each reads a capture of so many flows and one of twice as many. The difference is what
// flows cost; starting and compiling rules is not in it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/bench/report"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	err := start(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "rivals:", err)
		os.Exit(1)
	}
}

// engineCommand is the first argument where the program is to be the engine.
const engineCommand = "engine"

// options are what the command line says.
type options struct {
	suricata      string
	flows, rounds int
}

func start(ctx context.Context, args []string) error {
	if len(args) == 3 && args[0] == engineCommand {
		return runEngine(args[1], args[2])
	}
	o := &options{}
	f := flag.NewFlagSet("rivals", flag.ContinueOnError)
	f.StringVar(&o.suricata, "suricata", "bin/rivals/suricata/root",
		"`directory` that Suricata's packages are unpacked in")
	f.IntVar(&o.flows, "flows", 20_000, "`number` of flows, and of twice as many")
	f.IntVar(&o.rounds, "rounds", 5, "`number` of rounds")
	if err := f.Parse(args); err != nil {
		return err
	}
	const most = 30_000 // twice as many are remembered
	switch {
	case f.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.flows < concurrent || o.flows > most:
		return fmt.Errorf("flows %d: want %d to %d", o.flows, concurrent, most)
	case o.rounds < 1:
		return fmt.Errorf("rounds %d: want at least 1", o.rounds)
	}
	return compare(ctx, o)
}

// compare measures in a directory that it removes.
func compare(ctx context.Context, o *options) (err error) {
	dir, err := os.MkdirTemp("", "rivals")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := newSuricata(ctx, o.suricata, dir)
	if err != nil {
		return err
	}
	e, err := newEngine()
	if err != nil {
		return err
	}
	progress("writing captures of %d and %d flows", o.flows, 2*o.flows)
	captures, err := writeCaptures(dir, o.flows)
	if err != nil {
		return err
	}
	printMachine(s, captures)
	return measureAll(ctx, o, dir, []contender{e, s}, captures)
}

// measureAll has the contenders take turns with few rules and with many, and prints what
// came of it.
func measureAll(
	ctx context.Context, o *options, dir string, all []contender, captures []capture,
) error {
	var rows []report.Row
	ratios := report.Table{{"nsqueue to Suricata, processor time a flow", "ratio"}}
	for _, number := range []int{10, 1000} {
		ours, theirs, err := measure(ctx, o, &match{dir, number, all, captures})
		if err != nil {
			return err
		}
		rows = append(rows, ours, theirs)
		ratios = append(ratios, []string{
			fmt.Sprintf("%d rules", number), report.Ratio(ours.Metrics[perFlow],
				theirs.Metrics[perFlow]).String(),
		})
	}
	fmt.Println()
	report.Columns("engine, rules", columns(), rows).Print(os.Stdout)
	fmt.Println()
	ratios.Print(os.Stdout)
	fmt.Println("\n" + strings.TrimSpace(meaning))
	return nil
}

// meaning is what the figures say, and what not.
const meaning = `
Compared: user and system time of the whole process, for the flows that the second capture
has more than the first, in one thread (Suricata: --runmode single). Both read the file and
look at every packet, and both have refused the same flows by the same rules.
Not compared: Suricata does more. It joins both directions, parses what servers say,
inspects certificates and files, and keeps transactions. The engine reads what clients say
until their flows are decided. Neither has a kernel before it: nsqueued leaves decided flows
to the kernel, so that it never sees most of these packets.
`

func printMachine(s *suricata, captures []capture) {
	var name unix.Utsname
	_ = unix.Uname(&name)
	fmt.Printf("%d processors, Linux %s, %s, %s\n", runtime.NumCPU(),
		unix.ByteSliceToString(name.Release[:]), runtime.Version(),
		time.Now().UTC().Format(time.DateOnly))
	fmt.Printf("nsqueue %s\n%s\n", version(), s.version)
	for _, c := range captures {
		fmt.Printf("%s: %d flows, %d packets, %d bytes\n", filepath.Base(c.path), c.flows,
			c.packets, c.bytes)
	}
}

// progress tells what is being done, beside the figures.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
