// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

func TestMetricsAddress(t *testing.T) {
	for address, ok := range map[string]bool{
		"": true, ":9273": true, "127.0.0.1:9273": true, "[::1]:0": true, "[fe80::1%eth0]:1": true,
		"9273": false, "localhost:9273": false, "127.0.0.1:http": false, "127.0.0.1:65536": false,
	} {
		if err := validateMetricsAddress(address); (err == nil) != ok {
			t.Errorf("%q: %v, want an error: %v", address, err, !ok)
		}
	}
}

func TestObserveGroup(t *testing.T) {
	for name, want := range map[string]int{"": -1, "0": 0, "4711": 4711, "root": 0} {
		c := ObserveConfig{Group: name}
		if got, err := c.group(); got != want || err != nil {
			t.Errorf("%q: %d, %v, want %d", name, got, err, want)
		}
	}
	c := ObserveConfig{Group: "no-such-group"}
	if got, err := c.group(); got != -1 || err == nil || !strings.Contains(err.Error(), c.Group) {
		t.Errorf("%d, %v, want an error that names the group", got, err)
	}
}

// observed starts to serve d as a configuration says, until the returned
// function is called, which returns the log.
func observed(t *testing.T, d api.Observed, c *Config) (stop func() string) {
	t.Helper()
	var log bytes.Buffer
	serving := newGroup(t.Context())
	o := observers{
		observed: d, serving: serving, log: slog.New(slog.NewTextHandler(&log, nil)),
	}
	o.start(c)
	stop = sync.OnceValue(func() string {
		serving.close()
		return log.String()
	})
	t.Cleanup(func() { stop() })
	return stop
}

// Without the group there are still those who are root.
func TestUnknownGroup(t *testing.T) {
	var d apitest.Daemon
	c := Config{Socket: apitest.SocketPath(t), Observe: ObserveConfig{Group: "no-such-group"}}
	path := api.ObserverSocket(c.Socket)
	for range 2 { // a daemon after this one makes the socket anew
		stop := observed(t, &d, &c)
		info, err := os.Lstat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("socket is %v, %v, want mode 0600", info, err)
		}
		if _, err := api.NewClient(path).Status(t.Context()); err != nil {
			t.Error(err)
		}
		if log := stop(); !strings.Contains(log, "no-such-group") {
			t.Errorf("the log does not name the group: %s", log)
		}
	}
}

// An address that another program has is no reason to leave pods alone.
func TestMetricsAddressInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	var d apitest.Daemon
	c := Config{Socket: apitest.SocketPath(t), MetricsAddress: taken.Addr().String()}
	stop := observed(t, &d, &c)
	if _, err := api.NewClient(api.ObserverSocket(c.Socket)).Status(t.Context()); err != nil {
		t.Error(err)
	}
	if log := stop(); !strings.Contains(log, "address already in use") {
		t.Errorf("the log does not say why: %s", log)
	}
}

func TestLogLevelAndFormat(t *testing.T) {
	var out bytes.Buffer
	log, level := newLog(&out, LogJSON, api.LogWarn)
	b := backend{level: level, log: log}
	log.Info("unheard")
	for _, l := range []api.LogLevel{api.LogDebug, api.LogInfo, api.LogWarn, api.LogError} {
		if err := b.SetLogLevel(t.Context(), l); err != nil {
			t.Error(err)
		}
		for _, weight := range []slog.Level{
			slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError,
		} {
			log.Log(t.Context(), weight, "heard", slog.String("at", string(l)))
		}
	}
	heard := make(map[string]int)
	for line := range bytes.Lines(out.Bytes()) {
		var entry struct{ Msg, At, To string }
		if err := json.Unmarshal(line, &entry); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		heard[entry.Msg+entry.At+entry.To]++
	}
	want := map[string]int{
		"hearddebug": 4, "heardinfo": 3, "heardwarn": 2, "hearderror": 1,
		"log level changeddebug": 1, "log level changedinfo": 1, "log level changedwarn": 1,
		"log level changederror": 1,
	}
	if fmt.Sprint(heard) != fmt.Sprint(want) {
		t.Errorf("heard %v, want %v", heard, want)
	}
}
