// SPDX-License-Identifier: Apache-2.0

// Bench measures what a pod's start costs: the daemon's attach call alone, and
// the plugin's whole process, next to a VERSION call of the same binary, which
// does nothing but start. It runs in a throw-away node, with every pod attached
// at once in the end.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func main() {
	if err := nstest.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	bin := flag.String("bin", "bin", "`directory` of the programs")
	hook := flag.String("hook", "auto", "nsqueued's hook")
	pods := flag.Int("pods", 200, "`number` of pods")
	asJSON := flag.Bool("json", false, "print JSON")
	flag.Parse()
	if err := run(context.Background(), *bin, *hook, *pods, *asJSON); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin, hook string, pods int, asJSON bool) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	b := &bench{
		plugin: filepath.Join(bin, "nsqueue"),
		daemon: chain.NewDaemon(chain.DaemonConfig{Bin: bin, Hook: hook, LogLevel: "warn"}),
	}
	if err := b.daemon.Start(ctx); err != nil {
		return err
	}
	status, err := b.daemon.Client.Status(ctx)
	if err != nil {
		return err
	}
	if err := b.measure(ctx, pods); err != nil {
		return errors.Join(err, b.daemon.Kill())
	}
	if err := b.daemon.Stop(); err != nil {
		return err
	}
	r := report{Pods: pods, Version: status.Version, Hook: status.Hook, Results: b.results()}
	if asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	return r.print(os.Stdout)
}

// report is the outcome. Times are in microseconds.
type report struct {
	Pods    int            `json:"pods"`
	Version string         `json:"version"`
	Hook    api.HookStatus `json:"hook"`
	Results []result       `json:"results"`
}

type result struct {
	Name string `json:"name"`
	P50  int64  `json:"p50us"`
	P99  int64  `json:"p99us"`
	Max  int64  `json:"maxus"`
}

func (r report) print(w io.Writer) error {
	fmt.Fprintf(w, "%d pods, nsqueued %s, hook %s (%s)\n\n", r.Pods, r.Version, r.Hook.Kind,
		r.Hook.Detail)
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "p50 ms\tp99 ms\tmax ms\t  \t")
	for _, x := range r.Results {
		fmt.Fprintf(t, "%s\t%s\t%s\t  %s\n", ms(x.P50), ms(x.P99), ms(x.Max), x.Name)
	}
	return t.Flush()
}

func ms(us int64) string { return fmt.Sprintf("%.2f", float64(us)/1000) }

// timed returns how long a call took, and its error.
func timed(call func() error) (time.Duration, error) {
	started := time.Now()
	err := call()
	return time.Since(started), err
}
