// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nsqueue/nsqueue/ctl/internal/doctor"
	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// healthy is a daemon that doctor has nothing to say about, and the arguments
// for it.
func healthy(t *testing.T) (d *apitest.Daemon, socket string, args []string) {
	t.Helper()
	d = &apitest.Daemon{Attachments: attachments()[:1], Info: api.Status{
		Version: testVersion, PID: os.Getpid(), StateDir: t.TempDir(), FailurePolicy: api.Ignore,
		Hook:        api.HookStatus{Kind: "nft", Persistent: true},
		Supervisor:  api.Supervisor{Kind: api.Systemd, Capacity: 8192},
		Descriptors: api.Descriptors{Open: 9, Limit: 65536, Room: 20000},
	}}
	socket = d.Start(t)
	bin, conf := t.TempDir(), t.TempDir()
	plugin := "#!/bin/sh\necho nsqueue " + testVersion + "\n"
	chain := `{"name":"n","plugins":[{"type":"a"},{"type":"nsqueue","socket":"` + socket + `"}]}`
	for path, text := range map[string]string{
		filepath.Join(bin, "nsqueue"): plugin, filepath.Join(conf, "10.conflist"): chain,
	} {
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return d, socket, []string{"doctor", "--bin-dir", bin, "--conf-dir", conf}
}

func TestDoctorHealthy(t *testing.T) {
	_, socket, args := healthy(t)
	o := nsqueuectl(t.Context(), socket, args...)
	if o.status != 0 || strings.Contains(o.stdout, "wrong") || !strings.HasSuffix(o.err, " ok\n") {
		t.Errorf("%+v", o)
	}
}

// What install does for a runtime, doctor finds right for it.
func TestDoctorAfterInstall(t *testing.T) {
	for _, version := range []string{"v2.1.0", "1.7.27"} {
		_, socket, args := healthy(t)
		bin, conf := args[2], args[4]
		if err := os.Remove(conf + "/10.conflist"); err != nil {
			t.Fatal(err)
		}
		write(t, conf+"/10-flannel.conflist", stockList)
		path := t.TempDir()
		write(t, path+"/containerd", "#!/bin/sh\necho containerd containerd.io "+version+" abc\n")
		if err := os.Chmod(path+"/containerd", 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", path)
		m := newMachine(t)
		install := []string{
			"install", "--plugin", m.plugin, "--bin-dir", t.TempDir(), "--conf-dir", conf,
			"--reload-wait", "5ms",
		}
		if o := nsqueuectl(t.Context(), socket, install...); o.status != 0 {
			t.Fatalf("%+v", o)
		}
		o := nsqueuectl(t.Context(), socket, "doctor", "--bin-dir", bin, "--conf-dir", conf)
		if o.status != 0 || !strings.Contains(o.stdout, "nsqueue is the last plugin") {
			t.Errorf("%s: %+v", version, o)
		}
		write(t, path+"/containerd", "#!/bin/sh\necho containerd containerd.io 1.7.0 abc\n")
		o = nsqueuectl(t.Context(), socket, "doctor", "--bin-dir", bin, "--conf-dir", conf)
		if wrong := version == "v2.1.0"; (o.status == 1) != wrong {
			t.Errorf("%s, and then an older one: %+v", version, o)
		}
	}
}

// The directories are those of the distribution, as for install.
func TestDoctorProfile(t *testing.T) {
	o := nsqueuectl(t.Context(), apitest.SocketPath(t), "doctor", "--profile", "microk8s")
	if !strings.Contains(o.stdout, "var/snap/microk8s/current/") {
		t.Errorf("%+v", o)
	}
}

func TestDoctorSick(t *testing.T) {
	d, socket, args := healthy(t)
	d.Change(func(s *api.Status) {
		s.Version = "v0"
		s.Problems = []api.Problem{{
			Key: attachments()[0].Key, FailurePolicy: api.Fail, Message: "queue 80 is taken",
			Pod: api.Pod{Namespace: "default", Name: strings.Repeat("long", 20)},
		}}
	})
	o := nsqueuectl(t.Context(), socket, args...)
	if o.status != 1 || !strings.HasPrefix(o.err, "2 wrong, ") ||
		!strings.HasSuffix(o.err, " ok\nnsqueuectl: doctor found 2 problems\n") {
		t.Errorf("%+v", o)
	}
	for line := range strings.Lines(o.stdout) {
		if utf8.RuneCountInString(line) > 81 && !strings.Contains(line, "longlong") {
			t.Errorf("more than 80 columns: %s", line)
		}
	}
	if !strings.Contains(o.stdout, strings.Repeat("long", 20)+",\n") {
		t.Errorf("a long name is broken:\n%s", o.stdout)
	}
	o = nsqueuectl(t.Context(), socket, append(args, "-o", "json")...)
	var report doctor.Report
	if err := json.Unmarshal([]byte(o.stdout), &report); err != nil || o.status != 1 {
		t.Fatalf("%+v: %v", o, err)
	}
	if report.Count(doctor.Wrong) != 2 {
		t.Errorf("%+v", report)
	}
}

func TestDoctorUnreachable(t *testing.T) {
	_, _, args := healthy(t)
	o := nsqueuectl(t.Context(), apitest.SocketPath(t), args...)
	if o.status != 1 || !strings.HasPrefix(o.stdout, "wrong    daemon       ") ||
		!strings.Contains(o.stdout, "-> Start nsqueued") {
		t.Errorf("%+v", o)
	}
}
