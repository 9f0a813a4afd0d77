// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

func key() api.Key { return api.Key{ContainerID: "0fd31c8e5a2b77aa01", Ifname: "eth0"} }

func refusal(name string, count uint64) api.Event {
	return api.Event{
		Time: time.Date(2026, 1, 2, 3, 4, 5, int(count), time.UTC), Kind: api.EventRefusal,
		Key: key(), Pod: api.Pod{Namespace: "agents", Name: "a1"},
		Refusal: api.Refusal{
			Rule: "web/default", Verdict: "reject", Direction: "out", Protocol: "tcp",
			Address: "203.0.113.9", Port: 443, App: "tls", Name: name, Count: count,
		},
	}
}

func testDaemon() *apitest.Daemon {
	pod := api.Pod{Namespace: "agents", Name: "a1"}
	return &apitest.Daemon{
		Info: api.Status{Version: "v1.2.3", Hook: api.HookStatus{Kind: "nft"}},
		Attachments: []api.Attachment{{
			Key: key(), Pod: pod, State: api.Active, FailurePolicy: api.Fail,
			Counters: api.Counters{Packets: 7, Dropped: 1, Rejected: 2},
		}},
		Described: []api.Description{{Attachment: api.Attachment{Key: key(), Pod: pod}}},
		Happened:  []api.Event{refusal("evil.example", 2), refusal("evil.example", 3), refusal("<b>", 1)},
		Ruled: api.Rules{Directory: "/rules", Sets: []api.RuleSet{{
			Name: "web", Priority: 50, Rules: []api.Rule{{Name: "default", Hits: 9}},
		}}},
		RuledBy: []api.EffectiveRule{{Set: "web", Rule: "default", Action: "reject"}},
		Named: api.ObservedNames{Names: []api.ObservedName{
			{
				Namespace: "agents", Pod: "a1", App: "tls", Name: "good.example", Port: 443,
				Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.7")},
			},
			{Namespace: "agents", Pod: "a2", App: "tls", Name: "other.example", Port: 443},
		}},
		Packets: []api.PacketEvent{{
			Packet: 1, Key: key(), Pod: pod, Direction: "out", Protocol: "tcp", Length: 60,
			Source: netip.MustParseAddr("10.0.0.2"), SourcePort: 40000,
			Destination: netip.MustParseAddr("203.0.113.7"), DestinationPort: 443,
			Verdict: "accept", Rule: "web/names",
		}},
	}
}

// served returns the address of a page, until the test ends.
func served(t *testing.T, d *apitest.Daemon, hosts ...string) string {
	t.Helper()
	s := New(api.NewClient(d.Start(t)))
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l, hosts...) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s.URL(l.Addr())
}

// ask sends a request, with what is to be changed in it.
func ask(t *testing.T, url string, change func(*http.Request)) (status int, header http.Header, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	a, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Body.Close() }()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, a.Header, string(text)
}

// Only who knows the token, and comes by the server's address, is answered.
func TestGuard(t *testing.T) {
	page := served(t, testDaemon(), "node.example")
	root := page[:strings.LastIndex(page[:len(page)-1], "/")+1]
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	host := func(host string) func(*http.Request) { return func(r *http.Request) { r.Host = host } }
	own := strings.TrimSuffix(root, "/")
	for name, tt := range map[string]struct {
		url    string
		change func(*http.Request)
		want   int
	}{
		"page":               {page, nil, http.StatusOK},
		"script":             {page + "app.js", nil, http.StatusOK},
		"no token":           {root, nil, http.StatusUnauthorized},
		"no token, script":   {root + "app.js", nil, http.StatusUnauthorized},
		"wrong token":        {root + "x" + page[len(root):], nil, http.StatusUnauthorized},
		"part of the token":  {root + page[len(root):len(page)-2] + "/", nil, http.StatusUnauthorized},
		"feed without":       {root + "feed", nil, http.StatusUnauthorized},
		"token without end":  {strings.TrimSuffix(page, "/"), nil, http.StatusUnauthorized},
		"foreign host":       {page, host("evil.example"), http.StatusForbidden},
		"foreign host, port": {page, host("evil.example:80"), http.StatusForbidden},
		"foreign address":    {page, host("192.0.2.1"), http.StatusForbidden},
		"no host":            {page, host(" "), http.StatusForbidden},
		"localhost":          {page, host("localhost:1234"), http.StatusOK},
		"forwarded, IPv6":    {page, host("[::1]:1234"), http.StatusOK},
		"named host":         {page, host("Node.example:80"), http.StatusOK},
		"own origin":         {page, set("Origin", own), http.StatusOK},
		"foreign origin":     {page, set("Origin", "http://evil.example"), http.StatusForbidden},
		"null origin":        {page, set("Origin", "null"), http.StatusForbidden},
		"other port":         {page, set("Origin", "http://127.0.0.1:1"), http.StatusForbidden},
		"other site":         {page, set("Sec-Fetch-Site", "cross-site"), http.StatusForbidden},
		"by hand":            {page, set("Sec-Fetch-Site", "none"), http.StatusOK},
		"post": {
			page, func(r *http.Request) { r.Method = http.MethodPost },
			http.StatusMethodNotAllowed,
		},
		"nothing there": {page + "nothing", nil, http.StatusNotFound},
	} {
		status, header, _ := ask(t, tt.url, tt.change)
		if status != tt.want {
			t.Errorf("%s: %d, want %d", name, status, tt.want)
		}
		if header.Get("Content-Security-Policy") != policy {
			t.Errorf("%s: policy %q", name, header.Get("Content-Security-Policy"))
		}
	}
}

// The page asks for nothing from elsewhere.
func TestPageIsWhole(t *testing.T) {
	files, err := page.ReadDir("page")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := page.ReadFile("page/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, elsewhere := range []string{"https://", "innerHTML", "style=\"", "onclick=\"", "eval("} {
			if strings.Contains(string(text), elsewhere) {
				t.Errorf("%s has %s", f.Name(), elsewhere)
			}
		}
	}
}

// told reads the feed until it has told of each kind once.
func told(t *testing.T, url string, kinds ...string) map[string]json.RawMessage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"feed", nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Body.Close() }()
	got := make(map[string]json.RawMessage)
	kind := ""
	for lines := bufio.NewScanner(a.Body); len(got) < len(kinds) && lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			kind = name
		} else if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && got[kind] == nil {
			got[kind] = json.RawMessage(data)
		}
	}
	for _, k := range kinds {
		if got[k] == nil {
			t.Errorf("the feed does not tell of %s", k)
		}
	}
	return got
}

func decode[T any](t *testing.T, data []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return v
}

func TestFeed(t *testing.T) {
	got := told(t, served(t, testDaemon()), "node", "pods", "refused", "flows")
	if n := decode[node](t, got["node"]); n.Version != "v1.2.3" || n.Error != "" {
		t.Errorf("node %+v", n)
	}
	if pods := decode[[]pod](t, got["pods"]); len(pods) != 1 || pods[0].Refused != 3 ||
		pods[0].Name != "a1" || pods[0].Packets != 7 {
		t.Errorf("pods %+v", pods)
	}
	rows := decode[[]refused](t, got["refused"])
	if len(rows) != 2 || rows[0].Name != "evil.example" || rows[0].Count != 5 ||
		rows[1].Name != "<b>" {
		t.Errorf("refused %+v", rows)
	}
	flows := decode[[]flow](t, got["flows"])
	if len(flows) != 1 || flows[0].Other != "203.0.113.7:443" || flows[0].Direction != "out" ||
		flows[0].Verdict != "accept" || flows[0].Rule != "web/names" {
		t.Errorf("flows %+v", flows)
	}
}

// A daemon that does not answer is told of, and no page waits for it.
func TestFeedWithoutDaemon(t *testing.T) {
	d := testDaemon()
	d.Err = func(string) error { return api.Errorf(api.CodeTryAgainLater, "not now") }
	got := told(t, served(t, d), "node")
	if n := decode[node](t, got["node"]); !strings.Contains(n.Error, "not now") {
		t.Errorf("node %+v", n)
	}
}

func TestFeedsAreBounded(t *testing.T) {
	page := served(t, testDaemon())
	for range maxFeeds {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, page+"feed", nil)
		if err != nil {
			t.Fatal(err)
		}
		a, err := http.DefaultTransport.RoundTrip(r)
		if err != nil || a.StatusCode != http.StatusOK {
			t.Fatal(a, err)
		}
		defer func() { _ = a.Body.Close() }()
	}
	if status, _, _ := ask(t, page+"feed", nil); status != http.StatusTooManyRequests {
		t.Errorf("one more feed: %d", status)
	}
}

func TestPod(t *testing.T) {
	page := served(t, testDaemon())
	_, _, body := ask(t, page+"pod?key="+key().String(), nil)
	p := decode[podPage](t, []byte(body))
	if p.Pod.Name != "a1" || len(p.Rules) != 1 || p.Rules[0].Hits != 9 || len(p.Names) != 1 ||
		p.Names[0].Name != "good.example" {
		t.Errorf("pod %s", body)
	}
	for query, want := range map[string]int{
		"key=none/eth0": http.StatusNotFound, "key=..%2Fx": http.StatusBadRequest, "": http.StatusBadRequest,
	} {
		if status, _, _ := ask(t, page+"pod?"+query, nil); status != want {
			t.Errorf("pod?%s: %d, want %d", query, status, want)
		}
	}
}

func TestRule(t *testing.T) {
	page := served(t, testDaemon())
	status, _, body := ask(t, page+"rule?namespace=agents&pod=a1&rule=web/default&direction=out&"+
		"protocol=tcp&address=203.0.113.9&port=443&app=tls&name=evil.example", nil)
	if status != http.StatusOK || !strings.Contains(body, "priority: 49") ||
		!strings.Contains(body, `tls.sni == "evil.example"`) {
		t.Errorf("%d %s", status, body)
	}
	if status, _, _ := ask(t, page+"rule?direction=out&app=tls&name=%3Cb%3E", nil); status !=
		http.StatusUnprocessableEntity {
		t.Errorf("a rule for what is no name: %d", status)
	}
}
