// SPDX-License-Identifier: Apache-2.0

package shown

import "strings"

// Expected is what a command says that the documentation shows. test/e2e runs it.
type Expected struct {
	// Command begins with this.
	Command string
	// Says is an expression for something in its output.
	Says string
	// GoesOn until it is interrupted.
	GoesOn bool
}

// IsAbout says whether a command is one of these.
func (e Expected) IsAbout(line string) bool { return strings.HasPrefix(line, e.Command) }

// FindExpected returns what a command is to say.
func FindExpected(line string) (Expected, bool) {
	for _, e := range AllExpected() {
		if e.IsAbout(line) {
			return e, true
		}
	}
	return Expected{}, false
}

// AllExpected returns what all commands say that test/e2e runs; of several that a command
// begins with, the first counts.
func AllExpected() []Expected {
	return []Expected{
		{"nsqueued --help", "--config file", false},
		{"nsqueued check", `(?m)^ok +hook +nft`, false},
		{"nsqueuectl doctor", `(?m)^ok +daemon +`, false},
		{"nsqueuectl status", `Hook: +nft`, false},
		{"nsqueuectl ready --runtime-dir /run/nsqueue", `^ready: `, false},
		{"nsqueuectl ready", `^ready: nsqueued `, false},
		{"nsqueuectl list", `default/busybox1 `, false},
		{"nsqueuectl --socket /run/nsqueue/observe.sock list", `default/busybox1 `, false},
		{"nsqueuectl describe default/busybox1", `(?s)default/busybox1.*active`, false},
		{"nsqueuectl stats", `default/busybox1 `, true},
		{
			"nsqueuectl watch --pod default/busybox1 --protocol tcp",
			`default/busybox1, .*, tcp, .*verdict: accept`, true,
		},
		{
			"nsqueuectl watch --pod default/busybox1 --verdict drop",
			`default/busybox1, .*verdict: drop`, true,
		},
		{"nsqueuectl capture -w - --pod default/busybox1 --protocol tcp | tshark", "TCP", true},
		{"nsqueuectl capture -w dns.pcapng --port 53 --count 100", "100 packets written", false},
		{
			"nsqueuectl capture -w drops.pcapng --verdict drop --count 1000",
			"1000 packets written", false,
		},
		{"nsqueuectl events --follow", "takeOver", true},
		{"nsqueuectl ui", `^http://127\.0\.0\.1:[0-9]+/[A-Z2-7]{26}/\n`, true},
		{"nsqueuectl events", "takeOver", false},
		{"nsqueuectl install --dry-run", "nsqueue", false},
		{"nsqueuectl install --watch", "watching /etc/cni/net.d", true},
		{
			"nsqueuectl install --exclude-namespaces kube-system --watch",
			"watching /etc/cni/net.d", true,
		},
		{"nsqueuectl install", "10-flannel.conflist", false},
		{"nsqueuectl uninstall", "10-flannel.conflist", false},
		{"nsqueuectl adopt --dry-run", "would adopt", false},
		{"nsqueuectl adopt", "adopted", false},
		{"nsqueuectl upgrade", "upgraded", false},
		{"nsqueuectl attach --netns /run/netns/vpn", "vpn", false},
		{"nsqueuectl detach --all", "detached", false},
		{"nsqueuectl detach 0fd31c8e5a2b", "0fd31c8e5a2b", false},
		{"nsqueuectl log-level debug", "debug", false},
		{"nsqueuectl completion bash", "__nsqueuectl", false},
		{"curl --unix-socket /run/nsqueue/observe.sock", "nsqueue_packets_total", false},
	}
}
