// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// delivery is what the traffic program prints.
type delivery struct {
	Sent      int64   `json:"sent"`
	Delivered int64   `json:"delivered"`
	Seconds   float64 `json:"seconds"`
	P50       float64 `json:"p50us"`
	P99       float64 `json:"p99us"`
}

// traffic sends packets from the client to the pod.
func (b *bed) traffic(kind string, count, rate int) (delivery, error) {
	var d delivery
	// It enters both netns by itself.
	cmd := b.client.Command(filepath.Join(b.options.bin, "test", "bench-traffic"), kind,
		b.client.Path(), b.pod.Path(), fmt.Sprint(count), fmt.Sprint(rate))
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		return d, fmt.Errorf("traffic %s: %w: %s", kind, err, log.String())
	}
	if err := json.Unmarshal(out, &d); err != nil {
		return d, fmt.Errorf("traffic %s: %w: %s", kind, err, out)
	}
	return d, nil
}

// tcp returns how much one connection from the client to the pod carries, in
// Gbit/s.
func (b *bed) tcp(seconds int) (float64, error) {
	const port = 5201
	stop, err := b.startIperf(port)
	if err != nil {
		return 0, err
	}
	defer stop()
	client := b.client.Command("iperf3", "-c", podAddress, "-p", fmt.Sprint(port),
		"-t", fmt.Sprint(seconds), "-J")
	out, err := client.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("iperf3: %w: %s", err, out)
	}
	var result struct {
		End struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return 0, fmt.Errorf("iperf3: %w", err)
	}
	return result.End.Received.BitsPerSecond / 1e9, nil
}

// startIperf returns when iperf3 serves one connection in the pod.
func (b *bed) startIperf(port uint16) (stop func(), err error) {
	var log bytes.Buffer
	server := b.pod.Command("iperf3", "-s", "-1", "-p", fmt.Sprint(port))
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		return nil, fmt.Errorf("start iperf3: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Wait() // its log says more
	}()
	stop = func() {
		_ = server.Process.Kill()
		<-ended
	}
	if !b.awaitListener(port, ended) {
		stop()
		return nil, fmt.Errorf("iperf3 does not listen on port %d: %s", port, log.String())
	}
	return stop, nil
}

// awaitListener waits until a server in the pod has its port, and reports whether it
// came to that before it ended.
func (b *bed) awaitListener(port uint16, ended <-chan struct{}) (listens bool) {
	const patience = time.Minute // only for what hangs
	nstest.Poll(patience, func() bool {
		select {
		case <-ended:
			return true
		default:
			listens = b.pod.Listens(port)
			return listens
		}
	})
	return listens
}
