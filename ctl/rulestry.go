// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/internal/trial"
)

// tryFlags are the command's own flags.
type tryFlags struct {
	podFlags

	out, from, podIP        string
	in                      uint16
	protocol, app           string
	sni, dns, host          string
	dnsType, method, path   string
	resolved                []string
	uid                     int64
	hasSNI, hasDNS, hasHost bool
}

const tryHelp = `Say what rules decide of a connection that nobody opens, and why. RULES are
files or directories.

Say with --sni, --dns or --host what the client asks for. Rules that ask for it
decide nothing without. --app says what is spoken where there is no name: one of
tls, quic, http, h2, dns, ssh, unknown or none.

It needs neither nsqueued nor root.

Exit status:
  0  the connection is accepted
  1  it is refused: rejected or dropped
  2  neither is certain: a file cannot be read, rules are wrong, or they ask for
     more than was said`

func newRulesTry(run runner) *cobra.Command {
	var f tryFlags
	cmd := &cobra.Command{
		Use:   "try --pod NAMESPACE/NAME --out ADDRESS:PORT RULES...",
		Short: "Say what rules decide of a connection, and why",
		Long:  tryHelp,
		Example: `  nsqueuectl rules try --pod agents/a1 --out 203.0.113.5:443 --sni example.org \
    /etc/nsqueue/rules.d
  nsqueuectl rules try --pod agents/a1 --out 192.0.2.5:53 --dns a.example r.yaml
  nsqueuectl rules try --pod agents/a1 --in 8080 --from 192.0.2.1 r.yaml`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.hasSNI = cmd.Flags().Changed("sni")
			f.hasDNS = cmd.Flags().Changed("dns")
			f.hasHost = cmd.Flags().Changed("host")
			return run(cmd.Context(), func(_ context.Context, c *command) error {
				return tryRules(c, &f, args)
			})
		},
	}
	f.addFlags(cmd, run)
	return cmd
}

func (f *tryFlags) addFlags(cmd *cobra.Command, run runner) {
	f.addTo(cmd, run, "the pod `NAMESPACE/NAME` (required)")
	flags := cmd.Flags()
	flags.StringVar(&f.out, "out", "", "the pod connects to `ADDRESS:PORT`")
	flags.Uint16Var(&f.in, "in", 0, "somebody connects to `PORT` of the pod")
	flags.StringVar(&f.from, "from", "", "with --in: `ADDRESS` of the client")
	flags.StringVar(&f.podIP, "pod-ip", "", "`ADDRESS` of the pod")
	flags.StringVar(&f.protocol, "protocol", "",
		"`PROTOCOL`: udp for --dns, else tcp, unless given")
	flags.StringVar(&f.sni, "sni", "", "`NAME` in the ClientHello of TLS, or QUIC over UDP")
	flags.StringVar(&f.dns, "dns", "", "`NAME` that a DNS message asks for")
	flags.StringVar(&f.dnsType, "dns-type", "A", "`TYPE` that it asks for")
	flags.StringVar(&f.host, "host", "", "`HOST` of an HTTP request")
	flags.StringVar(&f.path, "path", "/", "`PATH` of the request")
	flags.StringVar(&f.method, "method", "GET", "`METHOD` of the request")
	flags.StringVar(&f.app, "app", "", "`PROTOCOL` that is spoken")
	flags.StringSliceVar(&f.resolved, "resolved", nil,
		"`NAME` that the pod has resolved to the server; may\nbe given several times")
	flags.Int64Var(&f.uid, "uid", -1, "`UID` of the socket's owner, if known")
	_ = cmd.MarkFlagRequired("pod") // an error would say that there is no such flag
	cmd.MarkFlagsMutuallyExclusive("out", "in")
	cmd.MarkFlagsOneRequired("out", "in")
	cmd.MarkFlagsMutuallyExclusive("sni", "dns", "host")
	completeFlag(cmd, "protocol", words("tcp", "udp", "icmp", "icmpv6", "sctp"))
	completeFlag(cmd, "app", words(apps()...))
	completeFlag(cmd, "dns-type", words("A", "AAAA", "HTTPS", "SRV", "TXT"))
}

// apps are the values of app.protocol.
func apps() []string {
	return []string{"tls", "quic", "http", "h2", "dns", "ssh", "unknown", "none"}
}

func tryRules(c *command, f *tryFlags, paths []string) error {
	q, err := f.question()
	if err != nil {
		return err
	}
	r, err := usableRules(paths)
	if err != nil {
		return err
	}
	a := trial.Ask(r, q)
	if err := c.writeReply(&a); err != nil {
		return err
	}
	switch a.Verdict {
	case "accept":
		return nil
	case "undecided":
		return unreadable(fmt.Errorf("%s asks for %s: say more with --sni, --dns, --host or --app",
			ruleName(a.RuleSet, a.Rule), strings.Join(a.WaitsFor, " and ")))
	}
	return fmt.Errorf("refused by %s", ruleName(a.RuleSet, a.Rule))
}

// question returns what is asked.
func (f *tryFlags) question() (*trial.Question, error) {
	pod, err := f.pod()
	if err != nil {
		return nil, err
	}
	q := &trial.Question{
		Pod: pod, UID: f.uid, Resolved: f.resolved, DNSType: strings.ToUpper(f.dnsType),
		Method: f.method, Path: f.path, Name: cmp.Or(f.sni, f.dns, f.host),
	}
	q.Protocol = cmp.Or(f.protocol, "tcp")
	if f.hasDNS && f.protocol == "" {
		q.Protocol = "udp"
	}
	if q.App, err = f.spoken(q.Protocol); err != nil {
		return nil, err
	}
	return q, f.setEnds(q)
}

// spoken returns what is spoken, as far as the flags say.
func (f *tryFlags) spoken(protocol string) (string, error) {
	app := ""
	switch {
	case f.hasSNI && protocol == "udp":
		app = "quic"
	case f.hasSNI:
		app = "tls"
	case f.hasDNS:
		app = "dns"
	case f.hasHost:
		app = "http"
	}
	switch {
	case f.app != "" && app != "" && f.app != app:
		return "", usageErrorf("app %s has no such name: want %s", f.app, app)
	case f.app != "" && !slices.Contains(apps(), f.app):
		return "", usageErrorf("app %q: want one of %v", f.app, apps())
	}
	return cmp.Or(app, f.app), nil
}

// setEnds sets who opens the connection to whom.
func (f *tryFlags) setEnds(q *trial.Question) error {
	const somePort = 49152
	ports := slices.Contains([]string{"tcp", "udp", "sctp"}, q.Protocol)
	far, err := parseEnd(f.out, ports)
	if f.out == "" {
		q.Incoming = true
		far, err = parseEnd(cmp.Or(f.from, "0.0.0.0"), false)
	}
	if err != nil {
		return err
	}
	pod, err := f.podAddress(far.Addr())
	if err != nil {
		return err
	}
	q.Client, q.Server = netip.AddrPortFrom(pod, 0), far
	if q.Incoming {
		q.Client, q.Server = far, netip.AddrPortFrom(pod, f.in)
	}
	if ports {
		q.Client = netip.AddrPortFrom(q.Client.Addr(), somePort)
	}
	return nil
}

// parseEnd reads ADDRESS:PORT, or ADDRESS alone where there are no ports.
func parseEnd(s string, ports bool) (netip.AddrPort, error) {
	if !ports {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return netip.AddrPort{}, usageErrorf("address %q: want an IP address", s)
		}
		return netip.AddrPortFrom(addr.Unmap(), 0), nil
	}
	end, err := netip.ParseAddrPort(s)
	if err != nil {
		return end, usageErrorf("address %q: want ADDRESS:PORT", s)
	}
	return netip.AddrPortFrom(end.Addr().Unmap(), end.Port()), nil
}

// podAddress returns the pod's address, or the unspecified one of the same family.
func (f *tryFlags) podAddress(far netip.Addr) (netip.Addr, error) {
	switch {
	case f.podIP != "":
		end, err := parseEnd(f.podIP, false)
		return end.Addr(), err
	case far.Is4():
		return netip.IPv4Unspecified(), nil
	}
	return netip.IPv6Unspecified(), nil
}

func (c *command) writeReply(a *trial.Reply) error {
	if c.printer().Structured() {
		return c.printer().Object(a)
	}
	var f text.Fields
	f.Add("Verdict", "%s", a.Verdict)
	if a.RuleSet != "" {
		f.Add("Rule", "%s", ruleName(a.RuleSet, a.Rule))
		f.Add("Where", "%s", a.File+":"+strconv.Itoa(a.Line))
	}
	f.Add("Because", "%s", because(a))
	if len(a.WaitsFor) > 0 {
		f.Add("Waits for", "%s", strings.Join(a.WaitsFor, ", "))
	}
	if a.Message != "" {
		f.Add("Message", "%s", a.Message)
	}
	for _, e := range a.Effects {
		f.Add("Also", "%s", effectText(e))
	}
	return f.Write(c.out)
}

// because says why rules decide so.
func because(a *trial.Reply) string {
	switch {
	case a.Sets == 0:
		return "no set of rules concerns the pod"
	case a.RuleSet == "":
		return "no rule refuses it"
	case a.When != "":
		return a.When
	}
	return "no rule of the set decides, and this is its default"
}
