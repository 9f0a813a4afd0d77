// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// Variables of the role "reader".
const (
	queueVariable   = "NSQUEUE_GUEST_QUEUE"
	requestVariable = "NSQUEUE_GUEST_REQUEST"
)

// playReader is a program of a pod that may have hooks and queues of its own.
// It holds each packet until it reads a line.
func playReader() int {
	queue, err := strconv.ParseUint(os.Getenv(queueVariable), 10, 16)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	request, err := strconv.ParseUint(os.Getenv(requestVariable), 10, 32)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	r, err := openQueue(uint16(queue))
	if err != nil {
		fmt.Println("bind:", err)
		return 1
	}
	r.request.Store(uint32(request))
	fmt.Println("bound")
	for in := bufio.NewScanner(os.Stdin); ; {
		p, err := r.next(nstest.Patient(time.Minute))
		if err != nil {
			fmt.Println("next packet:", err)
			return 1
		}
		fmt.Println("held")
		if !in.Scan() {
			return 0
		}
		if err := r.accept(p); err != nil {
			fmt.Println("accept:", err)
			return 1
		}
		fmt.Println("accepted")
	}
}

// weakReader is that program, in a pod.
type weakReader struct {
	in  io.Writer
	out *bufio.Scanner
}

func (p *pod) weakReader(t *testing.T, queue uint16, request uint32) *weakReader {
	t.Helper()
	cmd := p.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=reader",
		fmt.Sprintf("%s=%d", queueVariable, queue), fmt.Sprintf("%s=%d", requestVariable, request))
	in, err := cmd.StdinPipe()
	nstest.Must(t, err)
	out, err := cmd.StdoutPipe()
	nstest.Must(t, err)
	nstest.Must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	w := &weakReader{in, bufio.NewScanner(out)}
	w.says(t, "bound")
	return w
}

func (w *weakReader) says(t *testing.T, want string) {
	t.Helper()
	if !w.out.Scan() || w.out.Text() != want {
		t.Fatalf("the pod's reader says %q, expected %q", w.out.Text(), want)
	}
}

// answer gives the packet that it has read its verdict.
func (w *weakReader) answer(t *testing.T) {
	t.Helper()
	_, err := fmt.Fprintln(w.in)
	nstest.Must(t, err)
	w.says(t, "accepted")
}

// Whoever may read a queue of the netns may not settle flows yet.
func TestSettleNeedsRights(t *testing.T) {
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	f := newFlow(t, n, p, false)
	p.set(t, "directions", "in")
	p.set(t, "protocols", "udp")
	p.set(t, "queue_num", "81")
	p.set(t, "generation", "1")
	p.set(t, "enabled", "1")
	before := p.status(t)
	w := p.weakReader(t, 81, requestAccept)
	for range 3 {
		f.in(t, []byte("x"))
		w.says(t, "held")
		w.answer(t)
		if received(t, f.pod, 1) != 1 {
			t.Fatal("the packet was not delivered")
		}
	}
	p.awaitGrown(t, before, map[string]int{"queued": 3, "settled": 0, "flows": 0})

	p.set(t, "queue_num", "82")
	w = p.weakReader(t, 82, requestDrop)
	f.in(t, []byte("x"))
	w.says(t, "held")
	w.answer(t)
	nothing(t, f.pod) // the verdict was to drop this packet
	p.awaitGrown(t, before, map[string]int{"queued": 4, "settled": 0, "flows": 0})
}

// A packet that waits in a queue of the pod goes on at the number of its hook.
// With two more hooks before ours, that is the number of the settle hook.
func TestSettleNotByMovedHooks(t *testing.T) {
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	f := newFlow(t, n, p, false)
	stop := p.newReader(t, 80).serve(nil)
	p.set(t, "directions", "out")
	p.set(t, "protocols", "udp")
	p.set(t, "generation", "1")
	p.set(t, "enabled", "1")
	before := p.status(t)
	p.Run(t, "nft", `add table ip late;
		add chain ip late output { type filter hook output priority 0; };
		add rule ip late output meta l4proto udp queue num 5`)
	w := p.weakReader(t, 5, requestAccept)
	f.out(t, []byte("x"))
	w.says(t, "held")
	p.Run(t, "nft", `add table ip early;
		add chain ip early one { type filter hook output priority -300; };
		add chain ip early two { type filter hook output priority -300; }`)
	w.answer(t)
	w.says(t, "held") // it went from the settle hook to the late chain again
	w.answer(t)
	if received(t, f.node, 1) != 1 {
		t.Error("the packet was not delivered")
	}
	f.out(t, []byte("x"))
	w.says(t, "held")
	stop()
	p.awaitGrown(t, before, map[string]int{"queued": 2, "settled": 0, "flows": 0})
}
