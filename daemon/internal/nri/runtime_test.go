// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// runtime is the other side: it does what containerd does with a plugin.
type runtime struct {
	t      *testing.T
	path   string
	listen net.Listener
}

func newRuntime(t *testing.T, path string) *runtime {
	t.Helper()
	l, err := net.Listen("unix", path)
	nstest.Must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return &runtime{t: t, path: path, listen: l}
}

// conversation is a connection of a plugin.
type conversation struct {
	t    *testing.T
	conn net.Conn
	in   *reader
	last uint32 // call
}

// accept waits for a plugin that registers, and agrees.
func (r *runtime) accept() *conversation {
	r.t.Helper()
	conn, err := r.listen.Accept()
	nstest.Must(r.t, err)
	r.t.Cleanup(func() { _ = conn.Close() })
	nstest.Must(r.t, conn.SetDeadline(time.Now().Add(time.Minute)))
	c := &conversation{t: r.t, conn: conn, in: newReader(conn)}
	m, err := c.in.next()
	nstest.Must(r.t, err)
	registration, err := parseCall(m.data)
	nstest.Must(r.t, err)
	var name, index string
	nstest.Must(r.t, texts(registration.payload, map[protowire.Number]*string{1: &name, 2: &index}))
	if m.stream != ofRuntime || m.kind != request || m.call%2 == 0 ||
		registration.service != runtimeService || registration.method != registerMethod ||
		name != "nsqueue" || len(index) != 2 {
		r.t.Errorf("registered by %+v, %+v as %s-%s", m, registration, index, name)
	}
	c.write(&message{stream: ofRuntime, call: m.call, kind: response, data: encodeAnswer(codeOK, "", nil)})
	return c
}

func (c *conversation) write(m *message) {
	c.t.Helper()
	_, err := c.conn.Write(frame(m))
	nstest.Must(c.t, err)
}

// send calls a method.
func (c *conversation) send(service, method string, payload []byte) {
	c.t.Helper()
	c.last += 2
	data := (&call{service: service, method: method, payload: payload}).encode()
	c.write(&message{stream: ofPlugin, call: c.last - 1, kind: request, data: data})
}

// ask calls a method and returns the payload of the answer, and its error.
func (c *conversation) ask(method string, payload []byte) ([]byte, error) {
	c.t.Helper()
	c.send(pluginService, method, payload)
	m, err := c.in.next()
	nstest.Must(c.t, err)
	if m.stream != ofPlugin || m.kind != response || m.call != c.last-1 {
		c.t.Fatalf("an answer %+v to call %d", m, c.last-1)
	}
	var answer []byte
	nstest.Must(c.t, eachField(m.data, func(f *field) error {
		if f.number == 2 {
			answer = slices.Clone(f.text)
		}
		return nil
	}))
	return answer, refusal(m.data)
}

func (c *conversation) must(method string, payload []byte) []byte {
	c.t.Helper()
	answer, err := c.ask(method, payload)
	nstest.Must(c.t, err)
	return answer
}

// introduce configures the plugin, and tells of pods.
func (c *conversation) introduce(limit time.Duration, pods ...Pod) {
	c.t.Helper()
	config := appendText(appendText(nil, 2, "containerd"), 3, "v2.4.2")
	config = appendNumber(config, 4, 5000)
	config = appendNumber(config, 5, uint64(limit.Milliseconds()))
	if answer := c.must(configureMethod, appendText(config, 6, "v0.12.3")); !slices.Equal(answer,
		appendNumber(nil, 2, 0b101)) {
		c.t.Errorf("events %x", answer)
	}
	for i, pod := range pods { // one in each call, as if all together were too much
		more := i < len(pods)-1
		payload := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), encodePod(&pod))
		payload = protowire.AppendBytes(protowire.AppendTag(payload, 2, protowire.BytesType), encodePod(&pod))
		payload = appendNumber(payload, 3, protowire.EncodeBool(more))
		if answer := c.must(synchronizeMethod, payload); more != slices.Equal(answer, appendNumber(nil, 2, 1)) {
			c.t.Errorf("the answer to call %d is %x", i, answer)
		}
	}
	if len(pods) == 0 {
		c.must(synchronizeMethod, nil)
	}
}

func encodePod(p *Pod) []byte {
	b := appendText(nil, 1, p.ID)
	b = appendText(appendText(appendText(b, 2, p.Name), 3, p.UID), 4, p.Namespace)
	for name, value := range p.Labels {
		label := appendText(appendText(nil, 1, name), 2, value)
		b = protowire.AppendBytes(protowire.AppendTag(b, 5, protowire.BytesType), label)
	}
	b = appendText(b, 7, "runc")
	b = protowire.AppendVarint(protowire.AppendTag(b, 9, protowire.VarintType), 4711)
	return protowire.AppendFixed64(protowire.AppendTag(b, 99, protowire.Fixed64Type), 1) // of the future
}

func runRequest(p *Pod) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), encodePod(p))
}

// book remembers what the plugin was told.
type book struct {
	mu    sync.Mutex
	lines []string
	hold  chan struct{} // Run waits for it; nil: it does not
}

func (b *book) add(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, line)
}

func (b *book) Synchronize(pods []Pod) {
	line := "all"
	for _, p := range pods {
		line += " " + p.ID + "=" + p.Labels["app"]
	}
	b.add(line)
}

func (b *book) Run(p Pod) {
	if b.hold != nil {
		<-b.hold
	}
	b.add("run " + p.Namespace + "/" + p.Name + "/" + p.UID + " " + p.ID + "=" + p.Labels["app"])
}

func (b *book) Removed(id string) { b.add("removed " + id) }

func (b *book) want(t *testing.T, want ...string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.lines, want) {
		t.Errorf("told %q, want %q", b.lines, want)
	}
}

// start runs a plugin until the test ends.
func start(t *testing.T, socket string, h Handler) *Plugin {
	t.Helper()
	p := New(socket, h, slog.New(slog.DiscardHandler))
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { p.Run(ctx); close(ended) }()
	t.Cleanup(func() {
		end()
		<-ended
	})
	return p
}

func pod(id, app string) Pod {
	return Pod{ID: id, Name: "n" + id, UID: "u" + id, Namespace: "ns", Labels: map[string]string{"app": app}}
}

func awaitConnected(t *testing.T, p *Plugin, want bool) {
	t.Helper()
	nstest.Eventually(t, time.Minute, "the state of the connection", func() bool {
		return p.State().Connected == want
	})
}

// The plugin tells of all pods at first, of those that start and of those that go, in
// whichever way a runtime says so.
func TestPlugin(t *testing.T) {
	r, told := newRuntime(t, filepath.Join(t.TempDir(), "nri.sock")), &book{}
	p := start(t, r.path, told)
	c := r.accept()
	one, two, three := pod("1", "web"), pod("2", "db"), pod("3", "web")
	c.introduce(time.Minute, one, two)
	awaitConnected(t, p, true)
	c.must(runMethod, runRequest(&three))
	event := func(number uint64, of *Pod) []byte {
		b := protowire.AppendTag(appendNumber(nil, 1, number), 2, protowire.BytesType)
		return protowire.AppendBytes(b, encodePod(of))
	}
	c.must(eventMethod, event(runEvent, &one))
	c.must(eventMethod, event(2, &one)) // it stops
	c.must(removeMethod, runRequest(&two))
	c.must(eventMethod, event(removeEvent, &one))
	c.must(shutdownMethod, nil)
	told.want(t, "all 1=web 2=db", "run ns/n3/u3 3=web", "run ns/n1/u1 1=web", "removed 2",
		"removed 1")
	s := p.State()
	if s.Runtime != "containerd" || s.Version != "v2.4.2" || s.Pods != 2 || s.Late != 0 ||
		s.Connections != 1 || s.Problem != "" {
		t.Errorf("%+v", s)
	}
}

// What the plugin does not know it refuses, and goes on.
func TestCallsRefused(t *testing.T) {
	r, told := newRuntime(t, filepath.Join(t.TempDir(), "nri.sock")), &book{}
	start(t, r.path, told)
	c := r.accept()
	c.introduce(time.Minute)
	for method, payload := range map[string][]byte{
		"UpdatePodSandbox": nil, runMethod: {0xff}, removeMethod: nil, configureMethod: {0x12, 5},
		synchronizeMethod: {0x0a, 2, 0x2a, 9},
	} {
		if answer, err := c.ask(method, payload); err == nil || len(answer) > 0 {
			t.Errorf("%s: %x, %v", method, answer, err)
		}
	}
	c.must(runMethod, runRequest(&Pod{ID: "1"}))
	told.want(t, "all", "run // 1=")
}

// A pod does not wait for long for a handler that hangs, and others do not wait for it.
func TestHungHandler(t *testing.T) {
	r, told := newRuntime(t, filepath.Join(t.TempDir(), "nri.sock")), &book{hold: make(chan struct{})}
	p := start(t, r.path, told)
	c := r.accept()
	c.introduce(20 * time.Millisecond)
	one := pod("1", "web")
	c.must(runMethod, runRequest(&one))
	if s := p.State(); s.Late != 1 || s.Pods != 0 || !s.Connected {
		t.Errorf("%+v", s)
	}
	c.must(removeMethod, runRequest(&Pod{ID: "2"}))
	close(told.hold)
	nstest.Eventually(t, time.Minute, "the handler's end", func() bool {
		told.mu.Lock()
		defer told.mu.Unlock()
		return len(told.lines) == 3
	})
	told.want(t, "all", "removed 2", "run ns/n1/u1 1=web")
}

// The plugin is there before the runtime, and outlives it.
func TestReconnect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nri.sock")
	told := &book{}
	p := start(t, path, told)
	nstest.Eventually(t, time.Minute, "an attempt", func() bool { return p.State().Problem != "" })
	for i := range 3 {
		r := newRuntime(t, path)
		c := r.accept()
		c.introduce(time.Minute, pod("1", "web"))
		awaitConnected(t, p, true)
		nstest.Must(t, r.listen.Close())
		nstest.Must(t, c.conn.Close())
		awaitConnected(t, p, false)
		if s := p.State(); s.Problem == "" || s.Connections != uint64(i+1) {
			t.Errorf("%+v", s)
		}
	}
	told.want(t, "all 1=web", "all 1=web", "all 1=web")
}

// A runtime that refuses the plugin, or talks nonsense, is left and tried again.
func TestUnwilling(t *testing.T) {
	r := newRuntime(t, filepath.Join(t.TempDir(), "nri.sock"))
	p := start(t, r.path, &book{})
	for _, says := range [][]byte{
		frame(&message{stream: ofRuntime, call: 1, kind: response, data: encodeAnswer(3, "no \x1b", nil)}),
		{0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff},
		{0, 0, 0, 1, 0, 0, 0, 10, 0xff, 0, 0, 0, 0, 0, 0, 1, 1, 0},
		frame(&message{stream: ofPlugin, call: 1, kind: request, data: []byte{0xff}}),
	} {
		conn, err := r.listen.Accept()
		nstest.Must(t, err)
		_, err = conn.Write(says)
		nstest.Must(t, err)
		_, err = io.Copy(io.Discard, conn) // until the plugin closes it
		nstest.Must(t, err)
		nstest.Must(t, conn.Close())
	}
	r.accept().introduce(time.Minute)
	awaitConnected(t, p, true)
}
