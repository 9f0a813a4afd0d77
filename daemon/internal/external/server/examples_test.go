// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/test/nstest"
)

const examples = "../../../../examples/inspectors/"

// query is a packet that asks DNS for a name.
func query(b *bed, id uint32, name string, six bool) *inspect.Packet {
	var p []byte
	if six {
		p = append([]byte{0x60, 0, 0, 0, 0, 0, 17, 64}, make([]byte, 32)...)
	} else {
		p = append([]byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0}, make([]byte, 8)...)
	}
	p = append(p, 0x80, 1, 0, 53, 0, 0, 0, 0) // UDP
	p = append(p, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	for label := range strings.SplitSeq(name, ".") {
		p = append(append(p, byte(len(label))), label...)
	}
	p = append(p, 0, 0, 1, 0, 1)
	if !six {
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	}
	return &inspect.Packet{
		ID: id, Payload: p, Length: len(p), Attachment: b.pod, Deferrer: b.kernel,
	}
}

// The examples block one name and mark another, and take whatever packets there are.
func TestExamples(t *testing.T) {
	for name, build := range map[string][]string{
		"python": nil,
		"c":      {"gcc", "-Wall", "-Wextra", "-Werror", "-O2", "-o", "BIN", "c/inspector.c"},
		"rust":   {"rustc", "--edition", "2021", "-O", "-o", "BIN", "rust/inspector.rs"},
		"go":     {"go", "build", "-o", "BIN", "./go"},
	} {
		t.Run(name, func(t *testing.T) {
			command := []string{"python3", examples + "python/inspector.py"}
			if build != nil {
				command = []string{filepath.Join(t.TempDir(), "inspector")}
				compile(t, build, command[0])
			}
			b := newBed(t, Config{OnFailure: Drop})
			cmd := exec.CommandContext(t.Context(), command[0], append(command[1:], b.config.Socket)...)
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			})
			nstest.Eventually(t, hangs, "the example connects", func() bool {
				return b.State().Connected
			})
			judge(t, b)
		})
	}
}

// compile makes an example, where its language can be.
func compile(t *testing.T, build []string, to string) {
	t.Helper()
	if _, err := exec.LookPath(build[0]); err != nil {
		t.Skipf("%s cannot be had: %v", build[0], err)
	}
	build[len(build)-2] = strings.Replace(build[len(build)-2], "BIN", to, 1)
	cmd := exec.Command(build[0], build[1:]...)
	cmd.Dir = examples
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func judge(t *testing.T, b *bed) {
	t.Helper()
	packets := []*inspect.Packet{
		query(b, 1, "Blocked.Example", false), query(b, 2, "marked.example", false),
		query(b, 3, "other.example", false), query(b, 4, "blocked.example", true),
		query(b, 5, "a.blocked.example", false),
	}
	whole := query(b, 0, "blocked.example", false).Payload
	for n := range whole[:len(whole)-6] { // what is cut is no question for that name
		packets = append(packets, &inspect.Packet{
			ID: 100 + uint32(n), Payload: whole[:n], Length: n, Attachment: b.pod, Deferrer: b.kernel,
		})
	}
	b.InspectBatch(packets[:5], make([]inspect.Verdict, 5))
	b.InspectBatch(packets[5:], make([]inspect.Verdict, len(packets)-5))
	const mark = 0x01000000
	for i, v := range b.kernel.await(t, len(packets)) {
		want := inspect.Accept
		if i == 0 || i == 3 {
			want = inspect.Drop
		}
		if v.Action != want || (v.Mark == mark && v.MarkMask == mark) != (i == 1) {
			t.Errorf("packet %d: %+v", packets[i].ID, v)
		}
	}
}

// Each example has less than 100 lines.
func TestExamplesAreShort(t *testing.T) {
	for _, file := range []string{"python/inspector.py", "c/inspector.c", "rust/inspector.rs", "go/main.go"} {
		text, err := os.ReadFile(examples + file)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "\n"); n >= 100 {
			t.Errorf("%s has %d lines", file, n)
		}
	}
}
