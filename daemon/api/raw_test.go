// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// rawConn is a client that does what ours would not.
type rawConn struct {
	*net.UnixConn
	t testing.TB
	r *bufio.Reader
}

func dial(t testing.TB, socket string) *rawConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute)) // for a server that hangs
	return &rawConn{UnixConn: c, t: t, r: bufio.NewReader(c)}
}

// send writes data with n descriptors of our netns beside its first byte.
func (c *rawConn) send(data string, n int) {
	c.t.Helper()
	if err := c.trySend(data, n); err != nil {
		c.t.Fatal(err)
	}
}

// trySend is send where the server may have closed the connection.
func (c *rawConn) trySend(data string, n int) error {
	c.t.Helper()
	var fds []int
	for range n {
		f, err := os.Open(apitest.OwnNetns)
		if err != nil {
			c.t.Fatal(err)
		}
		defer f.Close()
		fds = append(fds, int(f.Fd()))
	}
	var oob []byte
	if n > 0 {
		oob = syscall.UnixRights(fds...)
	}
	written, _, err := c.WriteMsgUnix([]byte(data), oob, nil)
	if err == nil && written < len(data) {
		_, err = io.WriteString(c, data[written:])
	}
	return err
}

// receive reads one answer and returns its code (0 is success), its message,
// and whether the connection goes on.
func (c *rawConn) receive() (code api.Code, msg string, open bool) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	var e api.Error
	if resp.StatusCode != http.StatusOK {
		if err := json.Unmarshal(body, &e); err != nil {
			c.t.Fatalf("%s: body %q is no error: %v", resp.Status, body, err)
		}
	}
	return e.Code, e.Msg, !resp.Close
}

// wantClosed waits for the end of the connection.
func (c *rawConn) wantClosed() {
	c.t.Helper()
	if b, err := c.r.ReadByte(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		c.t.Errorf("connection goes on: byte %q, %v", b, err)
	}
}

func request(method, path, body string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s",
		method, path, len(body), body)
}

const (
	attachBody  = `{"containerID":"c0ffee","ifname":"eth0","origin":"cni","pod":{}}`
	attachPath  = "/v1/attachments"
	collectPath = "/v1/collect"
	adoptPath   = "/v1/adopt"
)
