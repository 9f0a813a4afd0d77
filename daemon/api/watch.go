// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// PacketEvent is one inspected packet, as a watch reports it.
type PacketEvent struct {
	// Packet numbers the packets that the watch is about from 1; numbers of packets
	// that the watcher was too slow for, or that were more than its rate, are left
	// out.
	Packet uint64    `json:"packet"`
	Time   time.Time `json:"time"`
	Key
	Pod             Pod        `json:"pod"`
	Direction       string     `json:"direction"`
	Source          netip.Addr `json:"source"`
	SourcePort      uint16     `json:"sourcePort,omitempty"`
	Destination     netip.Addr `json:"destination"`
	DestinationPort uint16     `json:"destinationPort,omitempty"`
	Protocol        string     `json:"protocol"`
	Length          int        `json:"length"`
	OriginMark      uint32     `json:"originMark"`
	SetMark         uint32     `json:"setMark"`
	Verdict         string     `json:"verdict"`
	// Rule is what decided, as SET/RULE where it was a rule; absent where nothing has
	// or the inspector does not say. RULE is default or midstream where the set decided
	// without a rule, and SET is nsqueue where the packet is dropped whatever rules say.
	Rule string `json:"rule,omitempty"`
	// Payload is the packet's beginning, from its IP header on, as long as was
	// asked for and was copied from the kernel.
	Payload []byte `json:"payload,omitempty"`
}

// MaxPayload is as much of a packet as can be asked for.
const MaxPayload = 65535

// WatchRequest says which packets a watch is about: those that have all of what
// is set. The zero value is about all.
type WatchRequest struct {
	Namespace string // of the pod
	Pod       string // its name
	Direction string // in, out, forward or unknown
	Protocol  string // a name, such as tcp, or a number
	Port      uint16 // source or destination
	Verdict   string // accept, drop, queue, reject or none
	// Rule is what decided, or all of it that is before a slash: SET or SET/RULE.
	Rule string
	// Address is an address or a network (CIDR) that the source or the destination
	// is, or is in.
	Address string
	// NoProbes leaves out packets from and to the node's own addresses: those of
	// the kubelet's probes, and of all else that the node itself sends and gets.
	NoProbes bool
	// Rate is how many packets a second are reported at most; what a second leaves
	// of it may come at once later. 0 is no limit but the watcher's own speed.
	Rate uint32
	// Payload is how many bytes of each packet are wanted. Only root's socket
	// gives any.
	Payload int
}

// The words that events use.
func watchDirections() []string { return []string{"in", "out", "forward", "unknown"} }
func watchVerdicts() []string   { return []string{"accept", "drop", "queue", "reject", "none"} }
func watchProtocols() []string {
	return []string{"icmp", "tcp", "udp", "icmpv6", "sctp", "udplite"}
}

// Validate finds what no packet could have.
func (r *WatchRequest) Validate() error {
	if r.Direction != "" && !slices.Contains(watchDirections(), r.Direction) {
		return fmt.Errorf("direction %.20q: want one of %v", r.Direction, watchDirections())
	}
	if r.Verdict != "" && !slices.Contains(watchVerdicts(), r.Verdict) {
		return fmt.Errorf("verdict %.20q: want one of %v", r.Verdict, watchVerdicts())
	}
	if r.Protocol != "" && !slices.Contains(watchProtocols(), r.Protocol) {
		if _, err := strconv.ParseUint(r.Protocol, 10, 8); err != nil {
			return fmt.Errorf("protocol %.20q: want one of %v, or a number to 255", r.Protocol,
				watchProtocols())
		}
	}
	if err := ValidateRule(r.Rule); err != nil {
		return err
	}
	if _, err := r.Network(); err != nil {
		return err
	}
	if r.Payload < 0 || r.Payload > MaxPayload {
		return fmt.Errorf("payload of %d bytes: want 0 to %d", r.Payload, MaxPayload)
	}
	return nil
}

// Network returns what Address means, the zero value where it is empty.
func (r *WatchRequest) Network() (netip.Prefix, error) {
	if r.Address == "" {
		return netip.Prefix{}, nil
	}
	if a, err := netip.ParseAddr(r.Address); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	network, err := netip.ParsePrefix(r.Address)
	if err != nil || network.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("address %.60q: want one such as 10.0.0.1 or fd00::1, "+
			"or a network such as 10.0.0.0/8", r.Address)
	}
	return network.Masked(), nil
}

// paramNoProbes is the parameter of NoProbes.
const paramNoProbes = "noProbes"

// query returns the request as the query of a URL.
func (r *WatchRequest) query() string {
	q := url.Values{}
	for name, value := range map[string]string{
		"namespace": r.Namespace, "pod": r.Pod, "direction": r.Direction, "protocol": r.Protocol,
		"verdict": r.Verdict, "address": r.Address, "rule": r.Rule,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, value := range map[string]uint64{
		"port": uint64(r.Port), "rate": uint64(r.Rate), "payload": uint64(r.Payload),
	} {
		if value != 0 {
			q.Set(name, strconv.FormatUint(value, 10))
		}
	}
	if r.NoProbes {
		q.Set(paramNoProbes, "true")
	}
	return q.Encode()
}

// parseWatch is the inverse of query. What it does not know is an error: a
// filter that is misspelt must not pass for none.
func parseWatch(query string) (WatchRequest, error) {
	var r WatchRequest
	q, err := url.ParseQuery(query)
	if err != nil {
		return r, fmt.Errorf("parse query: %w", err)
	}
	texts := map[string]*string{
		"namespace": &r.Namespace, "pod": &r.Pod, "direction": &r.Direction,
		"protocol": &r.Protocol, "verdict": &r.Verdict, "address": &r.Address,
		"rule": &r.Rule,
	}
	for name, values := range q {
		value := values[0]
		if len(values) > 1 || value == "" {
			return r, fmt.Errorf("parameter %.40q: want one value", name)
		}
		if text := texts[name]; text != nil {
			*text = value
			continue
		}
		if name == paramNoProbes {
			if r.NoProbes = value == "true"; !r.NoProbes {
				return r, fmt.Errorf("parameter %q: %.40q is not true", name, value)
			}
			continue
		}
		if err := r.setNumber(name, value); err != nil {
			return r, err
		}
	}
	return r, r.Validate()
}

func (r *WatchRequest) setNumber(name, value string) error {
	bits := map[string]int{"port": 16, "rate": 32, "payload": 32}[name]
	if bits == 0 {
		return fmt.Errorf("parameter %.40q is unknown", name)
	}
	n, err := strconv.ParseUint(value, 10, bits)
	if err != nil {
		return fmt.Errorf("parameter %.40q: %.40q: want a number from 0 to %d", name, value,
			uint64(1)<<bits-1)
	}
	switch name {
	case "port":
		r.Port = uint16(n)
	case "rate":
		r.Rate = uint32(n)
	case "payload":
		r.Payload = int(n)
	}
	return nil
}

// Watch calls ready once the daemon reports packets, then emit for those that the
// request is about, as many at a time as have come, until ctx ends (it then
// returns nil), emit returns an error, or the connection breaks. A nil ready is
// not called. The packets are emit's until it returns.
func (c *Client) Watch(
	ctx context.Context, req WatchRequest, ready func(), emit func([]PacketEvent) error,
) error {
	if err := req.Validate(); err != nil {
		return Errorf(CodeInvalidConfig, "%s", err)
	}
	path := pathWatch
	if query := req.query(); query != "" {
		path += "?" + query
	}
	resp, err := c.do(ctx, http.MethodGet, path, nil, nil)
	if errors.Is(ctx.Err(), context.Canceled) {
		if err == nil {
			_ = resp.Body.Close()
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if ready != nil {
		ready()
	}
	lines := bufio.NewReaderSize(resp.Body, streamBuffer)
	var events []PacketEvent
	for {
		clear(events) // of payloads
		events, err = readPackets(lines, events[:0])
		if len(events) > 0 {
			if err := emit(events); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: watch ended: %w", ErrUnavailable, err)
		}
	}
}

// streamBuffer is how much of a watch is read or written at once.
const streamBuffer = 64 << 10

// readPackets waits for a line, and appends its packet and those of the lines
// that have come with it.
func readPackets(r *bufio.Reader, events []PacketEvent) ([]PacketEvent, error) {
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return events, err
		}
		var e PacketEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return events, err
		}
		events = append(events, e)
		ahead, _ := r.Peek(r.Buffered())
		if bytes.IndexByte(ahead, '\n') < 0 {
			return events, nil
		}
	}
}

// watchRequest reads what a call wants to watch, and refuses what is not for
// observers.
func (s *server) watchRequest(r *http.Request) (WatchRequest, error) {
	req, err := parseWatch(r.URL.RawQuery)
	if err != nil {
		return req, Errorf(CodeInvalidConfig, "%s", err)
	}
	if req.Payload > 0 && s.observersOnly {
		return req, Errorf(CodeReadOnly,
			"the content of packets is not shown on the observers' socket; "+
				"root has the other socket")
	}
	return req, nil
}

// watch streams one JSON object a line. The first flush tells the client that
// packets are being reported from now on. A client may pause for as long as it
// likes, but not hold up a server that stops.
func (s *server) watch(w http.ResponseWriter, r *http.Request) {
	req, err := s.watchRequest(r)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	select {
	case s.watches <- struct{}{}:
		defer func() { <-s.watches }()
	default:
		s.writeError(w, r, Errorf(CodeTryAgainLater, "%d clients watch already", cap(s.watches)))
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()

	rc := http.NewResponseController(w)
	// The limits are for requests and answers, also for those that this
	// connection has carried before.
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Time{})
	limited := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(limited)
		_ = rc.SetWriteDeadline(time.Now().Add(s.limits.grace))
	})
	defer func() {
		if !stop() {
			<-limited // w is not ours any more once this handler has returned
		}
	}()
	answered := false
	started := func() error {
		answered = true
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.WriteHeader(http.StatusOK)
		return rc.Flush()
	}
	lines := bufio.NewWriterSize(w, streamBuffer)
	enc := json.NewEncoder(lines)
	// Once the status line is out, an error can only end the stream.
	err = s.observed.Watch(ctx, req, started, func(events []PacketEvent) error {
		for i := range events {
			if err := enc.Encode(&events[i]); err != nil {
				return err
			}
		}
		return errors.Join(lines.Flush(), rc.Flush())
	})
	if err != nil && !answered {
		s.writeError(w, r, err)
	}
}
