// SPDX-License-Identifier: Apache-2.0

// Command load makes the connections and queries that rules are measured with, from the
// netns that it is started in:
//
//	load serve TLS DNS           serves both addresses
//	load tls ADDRESS COUNT NAME  connects, asks for 16 KiB and closes
//	load refused ADDRESS COUNT NAME
//	                             the same, where each connection is to be reset
//	load dns ADDRESS COUNT NAME  asks for an address
//	load open ADDRESS COUNT RATE
//	                             sends the first packets of connections, and no others
//
// It prints one JSON object.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/test/damage/load"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 3 && args[0] == "serve" {
		return serve(args[1], args[2])
	}
	if len(args) != 4 {
		return errors.New("want the kind, an address, a number and a name")
	}
	address, name := args[1], args[3]
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	switch args[0] {
	case "tls":
		return measure(count, 4, func() (time.Duration, error) { return connect(address, name) })
	case "refused":
		// More at a time than nsqueued tells in a second would not all be told.
		return measure(count, 1, func() (time.Duration, error) { return refused(address, name) })
	case "dns":
		return measureQueries(address, name, count)
	case "open":
		return open(address, count, name)
	}
	return fmt.Errorf("unknown kind %q", args[0])
}

// open opens so many connections a second.
func open(address string, count int, perSecond string) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	rate, err := strconv.Atoi(perSecond)
	if err != nil {
		return err
	}
	return load.Open(to, count, rate)
}

// measure makes a number of turns, some at a time, and prints how long they took.
func measure(count, workers int, turn func() (time.Duration, error)) error {
	var mu sync.Mutex
	var times []time.Duration
	var failed error
	var running sync.WaitGroup
	began := time.Now()
	for range workers {
		running.Go(func() {
			for range count / workers {
				took, err := turn()
				mu.Lock()
				times, failed = append(times, took), errors.Join(failed, err)
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	running.Wait()
	if failed != nil {
		return failed
	}
	return printTimes(times, time.Since(began))
}

// printTimes prints what the benchmark reads.
func printTimes(times []time.Duration, all time.Duration) error {
	slices.Sort(times)
	at := func(percent int) float64 {
		return float64(times[(len(times)-1)*percent/100].Nanoseconds()) / 1000
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"sent": len(times), "delivered": len(times), "seconds": all.Seconds(),
		"p50us": at(50), "p99us": at(99),
	})
}
