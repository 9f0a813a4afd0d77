// SPDX-License-Identifier: Apache-2.0

// Bench measures nsqueued beside the programs that a user could read an NFQUEUE
// with instead, in a throw-away node:
//
//   - udp: processor time a packet, saturated and at 50,000 packets a second
//   - tcp: throughput of one connection, inspected in both directions
//   - latency: a round trip at 1,000 a second
//   - loss: packets lost in half a minute at 50,000 a second
//   - scale: attaching many pods, and the daemon idle with them
//   - attach: what a pod's start costs, call by call
//   - rules: nsqueued with rules beside nsqueued without
//   - inspectors: inspectors on sockets beside nsqueued alone, and a program behind
//     nsqueued beside the program alone
//   - pauses: the longest time without a packet while one nsqueued follows another
//
// The contenders take turns behind the very same rules, which nsqueued has
// made; see bed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nsqueue/nsqueue/test/bench/report"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func main() {
	if err := nstest.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	o, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(context.Background(), o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// The parts of the benchmark.
const (
	partUDP     = "udp"
	partTCP     = "tcp"
	partLatency = "latency"
	partLoss    = "loss"
	partScale   = "scale"
	partAttach  = "attach"
	partRules   = "rules"
	partOutside = "inspectors"
	partPauses  = "pauses"
)

// options is what the command line says, and how much work that means.
type options struct {
	bin, hook, json string
	command         string // without what says where things are
	parts           []string
	only            []string
	rounds          int
	quick           bool
	size            size
}

// size is how much of everything is measured.
type size struct {
	flood, window      int           // packets, and how many are under way, less than a backlog
	pace, rate         int           // packets, and how many a second
	ping, pingRate     int           // round trips, and how many a second
	tcp, tcpTurns      int           // seconds, and turns beside a rival
	loss               int           // seconds
	idle               time.Duration // for which the idle daemon is watched
	fewPods, scalePods int
	attachPods         int
	connections        int // of TLS
	queries, refused   int
	queryTurns         int // more of them for those that are compared
	reloads            int
	reloadTurns        int // with reloads and without
	crowd, crowdRate   int // flows that nobody decides, and how many a second
	crowdTurns         int // with the crowd and without
	pauses, idlePods   int
	programPods        int
}

func fullSize() size {
	return size{
		flood: 300_000, window: 960, pace: 100_000, rate: 50_000, ping: 1500, pingRate: 1000,
		tcp: 2, tcpTurns: 6, loss: 30, idle: 5 * time.Second, fewPods: 100, scalePods: 1000,
		attachPods: 200, connections: 2000, queries: 5000, queryTurns: 4, refused: 500, reloads: 16,
		reloadTurns: 3, crowdTurns: 3,
		crowd: 100_000, crowdRate: 20_000, pauses: 60, idlePods: 250, programPods: 100,
	}
}

// quickSize is enough to see that everything works.
func quickSize() size {
	return size{
		flood: 10_000, window: 960, pace: 5000, rate: 50_000, ping: 50, pingRate: 1000,
		tcp: 1, tcpTurns: 1, loss: 1, idle: time.Second, fewPods: 10, scalePods: 30, attachPods: 10,
		connections: 40, queries: 50, queryTurns: 1, refused: 20, reloads: 2,
		reloadTurns: 1, crowdTurns: 1,
		crowd: 5000, crowdRate: 20_000, pauses: 2, idlePods: 10, programPods: 3,
	}
}

func parseOptions(args []string) (*options, error) {
	all := []string{
		partUDP, partTCP, partLatency, partLoss, partScale, partAttach, partRules, partOutside,
		partPauses,
	}
	o := &options{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.bin, "bin", "bin", "`directory` of the programs")
	f.StringVar(&o.hook, "hook", "nft", "nsqueued's hook, nft or kmod")
	f.StringVar(&o.json, "json", "", "write the report to this `file`, too")
	parts := f.String("run", strings.Join(all, ","), "`parts` to run")
	only := f.String("only", "", "contenders to measure, by their `names` in the JSON (all)")
	f.IntVar(&o.rounds, "rounds", 5, "`number` of rounds of the contenders")
	f.BoolVar(&o.quick, "quick", false, "one short round of everything")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	o.parts = strings.Split(*parts, ",")
	for _, p := range o.parts {
		if !slices.Contains(all, p) {
			return nil, fmt.Errorf("part %q: want some of %s", p, strings.Join(all, ","))
		}
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	o.size = fullSize()
	if o.quick {
		o.rounds, o.size = 1, quickSize()
	}
	if o.rounds < 1 {
		return nil, fmt.Errorf("rounds %d: want at least 1", o.rounds)
	}
	o.command = "bench"
	f.Visit(func(x *flag.Flag) {
		if x.Name != "bin" && x.Name != "json" {
			o.command += " --" + x.Name + "=" + x.Value.String()
		}
	})
	var err error
	o.bin, err = filepath.Abs(o.bin)
	return o, err
}

// has reports whether one of the parts is to run.
func (o *options) has(parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return slices.Contains(o.parts, p) })
}

// run measures what was asked for, and prints it.
func run(ctx context.Context, o *options) error {
	began := time.Now()
	r := &report.Report{Rounds: o.rounds, Quick: o.quick}
	if err := describeMachine(ctx, o, &r.Machine); err != nil {
		return err
	}
	for _, step := range []struct {
		wanted  bool
		measure func(context.Context, *options, *report.Report) error
	}{
		{o.has(partUDP, partTCP, partLatency), measureContenders},
		{o.has(partLoss), measureLoss},
		{o.has(partScale), measureScale},
		{o.has(partAttach), measureAttach},
		{o.has(partRules), measureRules},
		{o.has(partOutside), measureInspectors},
		{o.has(partPauses), measurePauses},
	} {
		if !step.wanted {
			continue
		}
		if err := step.measure(ctx, o, r); err != nil {
			return err
		}
	}
	r.Machine.LoadAfter = loadAverage()
	r.Machine.Took = time.Since(began).Round(time.Second).String()
	r.Judge()
	r.Print(os.Stdout)
	if o.json == "" {
		return nil
	}
	return r.Write(o.json)
}

// progress tells what is being done, beside the report.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}
