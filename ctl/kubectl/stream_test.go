// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/ctl/internal/pcapng"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/pods"
	"github.com/nsqueue/nsqueue/internal/pcap"
)

// packetOf is a packet that came after so many milliseconds.
func packetOf(number, millis int, verdict string) string {
	return fmt.Sprintf(`{"packet":%d,"time":%q,"containerID":"aa","ifname":"eth0","pod":`+
		`{"namespace":"d","name":"p"},"direction":"in","protocol":"udp","source":"10.0.0.1",`+
		`"destination":"10.0.0.2","length":28,"verdict":%q,"new":1}`+"\n", number,
		testNow().Add(time.Duration(millis)*time.Millisecond).Format(time.RFC3339Nano), verdict)
}

// line is how watch prints it.
func line(node string, number, millis int, verdict string) string {
	return fmt.Sprintf("%s  packet: %d, origin mark: 0x00000000, set mark: 0x00000000, pod: d/p, in, "+
		"10.0.0.1 -> 10.0.0.2, udp, length: 28, verdict: %s, time: 2026-01-02T03:04:05.%06dZ\n",
		node, number, verdict, millis*1000)
}

// Packets of all nodes are in order, however they come. These nodes do not go on, which they
// should.
func TestWatchInOrder(t *testing.T) {
	c := newCluster(map[string]nsqueuectl{
		"node1": ends(packetOf(1, 1, "accept") + packetOf(2, 3, "drop") + packetOf(5, 5, "accept")),
		"node2": ends("\n" + packetOf(1, 2, "accept") + packetOf(2, 4, "accept")),
	})
	o := plugin(t, c, "watch", "--window", "1m")
	o.want(t, 1, line("node1", 1, 1, "accept")+line("node2", 1, 2, "accept")+
		line("node1", 2, 3, "drop")+line("node2", 2, 4, "accept")+line("node1", 5, 5, "accept"), o.err)
	for _, want := range []string{
		"watching; press Ctrl-C to stop\n",
		"node1 does not go on: exit status 1\n",
		"5 packets of 2 nodes printed: 4 accept, 1 drop; 2 left out because they came too fast\n",
		"kubectl nsqueue: 2 of 2 nodes did not answer:\n  node1, node2: exit status 1\n",
	} {
		if !strings.Contains(o.err, want) {
			t.Errorf("not said: %q in %q", want, o.err)
		}
	}
	o = plugin(t, c, "watch", "--window", "1m", "-o", "json", "--node", "node2")
	o.want(t, 1, `{"node":"node2",`+packetOf(1, 2, "accept")[1:]+`{"node":"node2",`+
		packetOf(2, 4, "accept")[1:], o.err)
}

// ends is a node that prints a text, and will not go on.
func ends(out string) nsqueuectl {
	return func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
		return errors.Join(says(out)(ctx, args, stdout, stderr), &pods.ExitError{Status: 1})
	}
}

// stays is a node that prints a text and goes on until the connection ends.
func stays(out string) nsqueuectl {
	return func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
		if err := says(out)(ctx, args, stdout, stderr); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}
}

// A watch that has printed enough ends, and all nodes have answered.
func TestWatchCount(t *testing.T) {
	c := newCluster(map[string]nsqueuectl{
		"node1": stays(packetOf(1, 1, "accept") + packetOf(2, 2, "accept") + packetOf(3, 3, "accept")),
	})
	plugin(t, c, "watch", "--count", "2", "--window", "0").want(t, 0,
		line("node1", 1, 1, "accept")+line("node1", 2, 2, "accept"),
		"watching; press Ctrl-C to stop\n2 packets of 1 node printed: 2 accept\n")
}

// A node that dies in the middle is named at once and at the end, and what others send goes
// on.
func TestNodeDies(t *testing.T) {
	var calls atomic.Int32
	died := make(chan struct{})
	c := newCluster(map[string]nsqueuectl{
		"node1": func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
			<-died
			return stays(packetOf(1, 5, "accept"))(ctx, args, stdout, stderr)
		},
		"node2": func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
			if calls.Add(1) == 1 {
				_ = says(packetOf(1, 1, "accept"))(ctx, args, stdout, stderr)
				return errors.New("connection reset")
			}
			select {
			case <-died:
			default:
				close(died)
			}
			return errors.New("no route to host")
		},
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, errs := textOf{on: "node1  packet: 1,", call: cancel}, textOf{}
	status := execute(ctx, streams(c, &out, &errs), []string{"watch", "--window", "10ms"})
	outcome{status, out.String(), errs.String()}.want(t, 1,
		line("node2", 1, 1, "accept")+line("node1", 1, 5, "accept"),
		"watching; press Ctrl-C to stop\nnode2 does not answer: connection reset; trying again\n"+
			"2 packets of 2 nodes printed: 2 accept\n"+
			"kubectl nsqueue: 1 of 2 nodes did not answer:\n  node2: connection reset\n")
}

// A node that comes back is said to, in the pod that it has then.
func TestNodeComesBack(t *testing.T) {
	c := newCluster(map[string]nsqueuectl{"node1": nil})
	c.nodes["node1"] = func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
		c.mu.Lock()
		again := len(c.asked["node1"]) > 1
		c.found = []pods.Pod{{Node: "node1", Name: "next"}}
		c.mu.Unlock()
		if !again {
			return says(packetOf(9, 1, "accept"))(ctx, args, stdout, stderr)
		}
		return stays(packetOf(2, 2, "accept"))(ctx, args, stdout, stderr)
	}
	first := c.nodes["node1"]
	c.nodes["node1"] = func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
		if err := first(ctx, args, stdout, stderr); err != nil {
			return err
		}
		return nil // it was told to end
	}
	plugin(t, c, "watch", "--count", "2", "--window", "0").want(t, 0,
		line("node1", 9, 1, "accept")+line("node1", 2, 2, "accept"),
		"watching; press Ctrl-C to stop\nnode1 does not answer: the connection has ended; trying again\n"+
			"node1 answers again; its packets in between are missing\n"+
			"2 packets of 1 node printed: 2 accept; 9 left out because they came too fast\n")
}

// Where no node answers at the beginning there is nothing to wait for.
func TestNoNodeAnswers(t *testing.T) {
	c := newCluster(map[string]nsqueuectl{
		"node1": lost("no route"),
		"node2": refuses(3, "nsqueuectl: no daemon\nIs it running?\n"),
	})
	o := plugin(t, c, "watch")
	o.want(t, 1, "", o.err)
	if !strings.HasSuffix(o.err, "kubectl nsqueue: 2 of 2 nodes did not answer:\n"+
		"  node1: no route\n  node2: no daemon\n") {
		t.Errorf("%q", o.err)
	}
}

func eventOf(second int, message string) string {
	return fmt.Sprintf(`{"time":"2026-01-02T03:04:%02dZ","kind":"attach","containerID":"aa","ifname":"eth0",`+
		`"pod":{"namespace":"d","name":"p"},"message":%q}`, second, message)
}

func TestEvents(t *testing.T) {
	c := newCluster(map[string]nsqueuectl{
		"node1": says(`{"events":[` + eventOf(1, "one") + "," + eventOf(3, "three") + `]}`),
		"node2": says(`{"events":[` + eventOf(2, "two") + `]}`),
	})
	plugin(t, c, "events").want(t, 0, ""+
		"NODE   TIME                  KIND    ATTACHMENT  POD  MESSAGE\n"+
		"node1  2026-01-02T03:04:01Z  attach  aa/eth0     d/p  one\n"+
		"node2  2026-01-02T03:04:02Z  attach  aa/eth0     d/p  two\n"+
		"node1  2026-01-02T03:04:03Z  attach  aa/eth0     d/p  three\n", "")
	o := plugin(t, c, "events", "-o", "json")
	if i, j := strings.Index(o.stdout, "two"), strings.Index(o.stdout, "three"); o.status != 0 || i < 0 || i > j {
		t.Errorf("%+v", o)
	}
}

// A node that is called again tells what it has told before.
func TestEventsOnce(t *testing.T) {
	var calls atomic.Int32
	c := newCluster(map[string]nsqueuectl{
		"node1": func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
			all := eventOf(1, "one") + "\n"
			if calls.Add(1) == 1 {
				return errors.Join(says(all)(ctx, args, stdout, stderr), errors.New("lost"))
			}
			return stays(all+eventOf(2, "two")+"\n")(ctx, args, stdout, stderr)
		},
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, errs := textOf{on: "two", call: cancel}, textOf{}
	status := execute(ctx, streams(c, &out, &errs), []string{"events", "--follow", "--window", "0"})
	outcome{status, out.String(), errs.String()}.want(t, 0,
		"node1  2026-01-02T03:04:01Z  attach      aa/eth0  d/p  one\n"+
			"node1  2026-01-02T03:04:02Z  attach      aa/eth0  d/p  two\n",
		"node1 does not answer: lost; trying again\nnode1 answers again\n")
}

// What is shown again and again has the latest of each node, and says which are away.
func TestListWatch(t *testing.T) {
	one := strings.ReplaceAll(attached(attachment("aa", "a1")), "\n", "") + "\n"
	c := newCluster(map[string]nsqueuectl{
		"node1": stays(one + one), "node2": lost("no route"),
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, errs := textOf{on: "No answer: node2\n", call: cancel}, textOf{}
	status := execute(ctx, streams(c, &out, &errs), []string{"list", "--watch"})
	if got := out.String(); status != 1 || strings.Count(got, "node1  aa") != 1 {
		t.Errorf("status %d: %q %q", status, got, errs.String())
	}
	if got := c.asked["node1"][0]; got != "list --watch -o json" {
		t.Errorf("asked %q", got)
	}
}

// captured is a capture of one pod, with a packet at each of these times.
func captured(t *testing.T, millis ...int) string {
	t.Helper()
	var b strings.Builder
	w, err := pcapng.NewWriter(&b, "nsqueuectl 1")
	if err != nil {
		t.Fatal(err)
	}
	i, err := w.AddInterface(pcapng.Interface{
		Name: "agents/a1", Description: "container 0fd31c8e5a2b77aa01, interface eth0", SnapLen: 96,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, ms := range millis {
		err := w.WritePacket(&pcapng.Packet{
			Interface: i, Time: testNow().Add(time.Duration(ms) * time.Millisecond),
			Data: append([]byte{0x45}, make([]byte, 19)...), Length: 20, Direction: pcapng.Outbound,
			Comment: "verdict: accept",
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// readCapture returns what a file has: node and pod of each packet, and its time.
func readCapture(t *testing.T, file string) []string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcap.NewReader(bufio.NewReader(f))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		_, node, _ := strings.Cut(p.Interface.Description, ", node ")
		namespace, name, _ := p.Interface.Pod()
		all = append(all, fmt.Sprintf("%s %s/%s %d %s", node, namespace, name,
			p.Time.Sub(testNow()).Milliseconds(), p.Comment))
	}
}

func TestCapture(t *testing.T) {
	c := newCluster(map[string]nsqueuectl{
		"node1": ends(captured(t, 1, 4)), "node2": ends(captured(t, 2, 3)),
		"node3": says("nonsense"), "node4": lost("no route"),
	})
	file := filepath.Join(t.TempDir(), "all.pcapng")
	o := untilSaid(t, c, "node3 does not answer", "capture", "-w", file, "--window", "1m")
	if o.status != 1 || !strings.Contains(o.err, "the node sends no capture: at byte 0: neither pcap nor pcapng") {
		t.Errorf("%+v", o)
	}
	delete(c.nodes, "node3")
	c.found = c.found[:2]
	o = plugin(t, c, "capture", "-w", file, "--window", "1m", "--snaplen", "96", "--count", "9")
	if o.status != 1 || !strings.Contains(o.err, "4 packets of 2 nodes written\n") {
		t.Errorf("%+v", o)
	}
	const rest = " verdict: accept"
	want := []string{
		"node1 agents/a1 1" + rest, "node2 agents/a1 2" + rest, "node2 agents/a1 3" + rest,
		"node1 agents/a1 4" + rest,
	}
	if diff := cmp.Diff(want, readCapture(t, file)); diff != "" {
		t.Errorf("capture (-want +got):\n%s", diff)
	}
	c.mu.Lock()
	asked := c.asked["node1"]
	c.mu.Unlock()
	if got := asked[len(asked)-1]; got != "capture -w - --max-size=0 --snaplen=96" {
		t.Errorf("asked %q", got)
	}
}

// A cluster that cannot be asked leaves files as they are.
func TestCaptureSpares(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kept")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	plugin(t, newCluster(nil), "capture", "-w", file)
	if got, err := os.ReadFile(file); err != nil || string(got) != "kept" {
		t.Errorf("%q, %v", got, err)
	}
}

const address = "http://127.0.0.1:4711/ABCDEFGHIJKLMNOPQRSTUVWXYZ/"

func TestUI(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := newCluster(map[string]nsqueuectl{"node1": stays(address + "\n"), "node2": lost("no")})
	c.forward = func(ctx context.Context, p pods.Pod, local, remote uint16, ready func(uint16) error) error {
		if p.Node != "node1" || local != 8080 || remote != 4711 {
			return fmt.Errorf("forward %d to %d of %s", local, remote, p.Node)
		}
		if err := ready(8080); err != nil {
			return err
		}
		cancel()
		<-ctx.Done()
		return nil
	}
	var out, errs textOf
	status := execute(ctx, streams(c, &out, &errs), []string{"ui", "--node", "node1", "--port", "8080"})
	outcome{status, out.String(), errs.String()}.want(t, 0,
		strings.Replace(address, "4711", "8080", 1)+"\n",
		"open this address in a browser; press Ctrl-C to stop\n")
}

// The end of the page, or of the way to it, ends the command.
func TestUIEnds(t *testing.T) {
	var once sync.Once
	end := make(chan struct{})
	node := func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
		_ = says(address+"\n")(ctx, args, stdout, stderr)
		select {
		case <-end:
		case <-ctx.Done():
		}
		return errors.New("pod deleted")
	}
	c := newCluster(map[string]nsqueuectl{"n": node})
	c.forward = func(ctx context.Context, _ pods.Pod, _, _ uint16, _ func(uint16) error) error {
		once.Do(func() { close(end) })
		<-ctx.Done()
		return nil
	}
	plugin(t, c, "ui").want(t, 1, "", "kubectl nsqueue: n: pod deleted\n")
	end = make(chan struct{})
	c.forward = func(context.Context, pods.Pod, uint16, uint16, func(uint16) error) error {
		return errors.New("not allowed")
	}
	plugin(t, c, "ui").want(t, 1, "", "kubectl nsqueue: forward a port to n: not allowed\n")
	c.nodes["n"] = refuses(3, "nsqueuectl: no daemon\nIs it there?\n")
	plugin(t, c, "ui").want(t, 1, "", "kubectl nsqueue: n: no daemon\n")
	c.nodes["n"] = stays("http://127.0.0.1:1/\x1b[2J/\n")
	plugin(t, c, "ui").want(t, 1, "", "kubectl nsqueue: n: the node sends no address of a page\n")
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{address, "", "http://[::1]:80/x/", "javascript:1", "http://127.0.0.1:0/a/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		p, err := readAddress(line)
		if err != nil {
			return
		}
		if p.port == 0 || len(p.token) < 16 || strings.ContainsFunc(p.token, func(r rune) bool {
			return r <= ' ' || r > '~' || strings.ContainsRune(`/\"'<>?#&`, r)
		}) {
			t.Errorf("%q: %+v", line, p)
		}
	})
}
