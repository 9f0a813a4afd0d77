// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
)

// Traffic is what an interface has received and sent since it was made.
type Traffic struct {
	RxBytes, RxPackets, TxBytes, TxPackets uint64
}

// add counts other's traffic too.
func (t *Traffic) add(other Traffic) {
	t.RxBytes += other.RxBytes
	t.RxPackets += other.RxPackets
	t.TxBytes += other.TxBytes
	t.TxPackets += other.TxPackets
}

// TrafficOf returns the traffic of the named interfaces of the place together.
// One that is not there has none.
func TrafficOf(at Place, names []string) (Traffic, error) {
	text, err := ReadFile(at, "/proc/thread-self/net/dev")
	if err != nil {
		return Traffic{}, err
	}
	return parseInterfaces(text, names)
}

// parseInterfaces reads of /proc/net/dev the lines of the named interfaces. A
// line is a name and sixteen numbers, but for two of heading.
func parseInterfaces(text []byte, names []string) (Traffic, error) {
	var sum Traffic
	for line := range bytes.Lines(text) {
		colon := bytes.LastIndexByte(line, ':')
		if colon < 0 || !slices.Contains(names, string(bytes.TrimSpace(line[:colon]))) {
			continue
		}
		t, ok := parseTraffic(line[colon+1:])
		if !ok {
			return Traffic{}, fmt.Errorf("parse /proc/net/dev line %q: want 16 numbers", line)
		}
		sum.add(t)
	}
	return sum, nil
}

// parseTraffic reads the numbers of a line: eight of what was received, then of
// what was sent.
func parseTraffic(numbers []byte) (t Traffic, ok bool) {
	column := 0
	for field := range bytes.FieldsSeq(numbers) {
		n, err := strconv.ParseUint(string(field), 10, 64)
		if err != nil {
			return Traffic{}, false
		}
		switch column {
		case 0:
			t.RxBytes = n
		case 1:
			t.RxPackets = n
		case 8:
			t.TxBytes = n
		case 9:
			t.TxPackets = n
		}
		column++
	}
	return t, column >= 10
}

// Sent returns how many packets the IP stack of the place has sent, its own and
// those that it forwards, on whatever interface.
func Sent(at Place) (uint64, error) {
	v4, err := ReadFile(at, "/proc/thread-self/net/snmp")
	if err != nil {
		return 0, err
	}
	v6, err := ReadFile(at, "/proc/thread-self/net/snmp6")
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without IPv6
		return 0, err
	}
	return sentIPv4(v4) + sentIPv6(v6), nil
}

// sentIPv4 reads the two lines that begin with "Ip:", names and numbers.
func sentIPv4(text []byte) uint64 {
	var names [][]byte
	sum := uint64(0)
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		switch {
		case len(fields) == 0 || string(fields[0]) != "Ip:":
		case names == nil:
			names = fields
		default:
			for i := range min(len(names), len(fields)) {
				switch string(names[i]) {
				case "OutRequests", "ForwDatagrams":
					sum += number(fields[i])
				}
			}
		}
	}
	return sum
}

func sentIPv6(text []byte) uint64 {
	sum := uint64(0)
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) != 2 {
			continue
		}
		switch string(fields[0]) {
		case "Ip6OutRequests", "Ip6OutForwDatagrams":
			sum += number(fields[1])
		}
	}
	return sum
}

// number of a counter; 0 for what is none.
func number(text []byte) uint64 {
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
