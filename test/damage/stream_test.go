// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package damage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// stream is an iperf3 TCP connection with reports ten times a second.
type stream struct {
	server, client *nstest.Cmd
	out            bytes.Buffer
	log            bytes.Buffer
}

const (
	iperfPort     = 5201
	iperfInterval = 100 * time.Millisecond
)

// startStream starts a stream of the given rate, such as 200M, into the pod. It
// lasts as long as seconds says.
func startStream(
	from, pod *nstest.NetNS, addr netip.Addr, rate string, seconds int,
) (*stream, error) {
	s := &stream{server: pod.Command("iperf3", "-s", "-1", "-p", fmt.Sprint(iperfPort))}
	s.server.Stdout, s.server.Stderr = &s.log, &s.log
	if err := s.server.Start(); err != nil {
		return nil, fmt.Errorf("start iperf3: %w", err)
	}
	if !nstest.Poll(patience, func() bool { return pod.Listens(iperfPort) }) {
		return nil, errors.Join(errors.New("iperf3 does not listen: "+s.log.String()), s.end())
	}
	s.client = from.Command("iperf3", "-c", addr.String(), "-p", fmt.Sprint(iperfPort),
		"-b", rate, "-t", fmt.Sprint(seconds), "-i", fmt.Sprint(iperfInterval.Seconds()), "-J")
	s.client.Stdout, s.client.Stderr = &s.out, &s.log
	if err := s.client.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start iperf3: %w", err), s.end())
	}
	return s, nil
}

func (s *stream) end() error {
	err := s.server.Process.Kill()
	_ = s.server.Wait()
	return err
}

// stall waits for the end of the stream and returns the longest time in which
// it carried nothing, in steps of its reports.
func (s *stream) stall() (time.Duration, error) {
	err := errors.Join(s.client.Wait(), s.server.Wait())
	if err != nil {
		return 0, fmt.Errorf("iperf3: %w: %s%s", err, s.log.String(), s.out.String())
	}
	var report struct {
		Intervals []struct {
			Sum struct {
				Bytes float64 `json:"bytes"`
			} `json:"sum"`
		} `json:"intervals"`
	}
	if err := json.Unmarshal(s.out.Bytes(), &report); err != nil {
		return 0, fmt.Errorf("iperf3: %w", err)
	}
	if len(report.Intervals) == 0 {
		return 0, fmt.Errorf("iperf3 reports nothing: %s", s.out.String())
	}
	var longest, current time.Duration
	for _, i := range report.Intervals {
		current += iperfInterval
		if i.Sum.Bytes > 0 {
			current = 0
		}
		longest = max(longest, current)
	}
	return longest, nil
}
