// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/internal/apitest"
)

// The address that ui prints is that of the page, until ui ends.
func TestUI(t *testing.T) {
	d := apitest.Daemon{}
	socket := d.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	s := &IOStreams{out: in, err: io.Discard, getenv: func(string) string { return "" }}
	ended := make(chan int, 1)
	go func() { ended <- execute(ctx, s, []string{"ui", "--socket", socket}) }()
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSpace(address), nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Body.Close(); err != nil || a.StatusCode != http.StatusOK {
		t.Errorf("%s: %s, %v", address, a.Status, err)
	}
	cancel()
	if status := <-ended; status != statusOK {
		t.Errorf("ended with %d", status)
	}
}

func TestUIRefuses(t *testing.T) {
	d := apitest.Daemon{}
	socket := d.Start(t)
	for listen, status := range map[string]int{
		"": 2, "8080": 2, ":8080": 2, "nowhere": 2, "127.0.0.1:70000": 1,
	} {
		o := nsqueuectl(t.Context(), socket, "ui", "--listen", listen)
		if o.status != status || o.stdout != "" {
			t.Errorf("%q: %+v", listen, o)
		}
	}
}
