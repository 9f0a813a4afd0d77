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
	const port = "5201"
	var log bytes.Buffer
	server := b.pod.Command("iperf3", "-s", "-1", "-p", port)
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		return 0, fmt.Errorf("start iperf3: %w", err)
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	if err := b.awaitListener(port); err != nil {
		return 0, err
	}
	client := b.client.Command("iperf3", "-c", podAddress, "-p", port, "-t", fmt.Sprint(seconds),
		"-J")
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

// awaitListener waits until iperf3 has its port.
func (b *bed) awaitListener(port string) error {
	const timeout = 5 * time.Second
	if !nstest.Poll(timeout, func() bool { return b.pod.Listens(port) }) {
		return fmt.Errorf("iperf3 does not listen on port %s after %v", port, timeout)
	}
	return nil
}
