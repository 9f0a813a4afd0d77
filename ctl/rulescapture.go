// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/internal/trial"
	"github.com/nsqueue/nsqueue/internal/pcap"
)

// testFlags are the command's own flags.
type testFlags struct {
	podFlags

	capture, expect string
	addresses       []string
}

func newRulesTest(run runner) *cobra.Command {
	var f testFlags
	cmd := &cobra.Command{
		Use:   "test --pcap FILE RULES...",
		Short: "Say what rules would have decided of a capture",
		Long: `Say what rules would have decided of the packets of a capture, in the formats
pcap or pcapng. RULES are files or directories.

A capture of nsqueuectl capture says which pods it has, and which packets are
theirs. With --pod only that pod's packets count if the capture has them, else
all count as its packets. In other captures the pod is the client of the first
flow, or has the addresses of --pod-ip.

A flow of DNS or HTTP that is decided message by message has a line for each.
Packets are numbered as in Wireshark. The output of -o yaml is an expectation
for --expect: there an entry may leave out what does not matter.

It needs neither nsqueued nor root.

Exit status:
  0  the capture was read, and is as expected
  1  something is not as expected
  2  a file cannot be read, or the rules are wrong`,
		Example: `  nsqueuectl rules test --pcap c.pcapng --pod agents/a1 /etc/nsqueue/rules.d
  nsqueuectl rules test --pcap c.pcapng --expect expected.yaml sandbox.yaml`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd.Context(), func(_ context.Context, c *command) error {
				return testRules(c, &f, args)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.capture, "pcap", "", "the capture, a `FILE` of pcap or pcapng (required)")
	flags.StringVar(&f.expect, "expect", "", "compare with what `FILE` expects")
	flags.StringSliceVar(&f.addresses, "pod-ip", nil,
		"`ADDRESS` of the pod; may be given several times")
	f.addTo(cmd, run, "the pod is `NAMESPACE/NAME`")
	_ = cmd.MarkFlagRequired("pcap") // an error would say that there is no such flag
	_ = cmd.MarkFlagFilename("pcap", "pcap", "pcapng")
	_ = cmd.MarkFlagFilename("expect", "yaml", "yml", "json")
	return cmd
}

func (f *testFlags) options() (trial.Options, error) {
	pod, err := f.pod()
	o := trial.Options{Pod: pod}
	for _, address := range f.addresses {
		addr, err := netip.ParseAddr(address)
		if err != nil {
			return o, usageErrorf("pod-ip %q: want an IP address", address)
		}
		o.Addresses = append(o.Addresses, addr.Unmap())
	}
	return o, err
}

func testRules(c *command, f *testFlags, paths []string) error {
	o, err := f.options()
	if err != nil {
		return err
	}
	expected, err := readExpectation(f.expect)
	if err != nil {
		return unreadable(fmt.Errorf("read expectation %s: %w", f.expect, err))
	}
	report, err := runCapture(f.capture, o, paths)
	if err != nil {
		return err
	}
	if expected != nil {
		report.Unmet = expected.Check(report)
	}
	if err := c.writeTested(report); err != nil || len(report.Unmet) == 0 {
		return err
	}
	return fmt.Errorf("%s: %s not met", f.expect, text.Plural(len(report.Unmet), "expectation"))
}

// readExpectation returns nil if none is wanted.
func readExpectation(file string) (*trial.Expectation, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return trial.ParseExpectation(b)
}

func runCapture(file string, o trial.Options, paths []string) (*trial.Report, error) {
	r, err := usableRules(paths)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, unreadable(fmt.Errorf("read capture: %w", err))
	}
	defer f.Close()
	capture, err := pcap.NewReader(bufio.NewReader(f))
	if err != nil {
		return nil, unreadable(fmt.Errorf("read capture %s: %w", file, err))
	}
	report, err := trial.Run(r, capture, o)
	if err != nil {
		return nil, unreadable(fmt.Errorf("read capture %s: %w", file, err))
	}
	return report, nil
}

func (c *command) writeTested(r *trial.Report) error {
	if c.printer().Structured() {
		return c.printer().Object(r)
	}
	if len(r.Flows) == 0 {
		fmt.Fprintln(c.err, "No flows.")
	} else if err := c.printer().Table(reportTable(r)); err != nil {
		return err
	}
	if r.Foreign > 0 {
		fmt.Fprintf(c.err, "%s neither from nor to the pod\n", text.Plural(r.Foreign, "packet"))
	}
	if r.Unreadable > 0 {
		fmt.Fprintf(c.err, "%s for the failure policy: no rule can judge them\n",
			text.Plural(r.Unreadable, "packet"))
	}
	var errs []error
	for _, unmet := range r.Unmet {
		errs = append(errs, c.printLine("not met: %s", unmet))
	}
	return errors.Join(errs...)
}

func reportTable(r *trial.Report) *text.Table {
	t := &text.Table{
		Head: []string{
			"CLIENT", "SERVER", "PROTOCOL", "APP", "NAME", "VERDICT", "RULE", "PACKET", "ERROR",
			"ALSO", "POD",
		},
		Elastic: "NAME", Spare: []string{"CLIENT", "PROTOCOL", "ERROR", "APP"},
		Extra: []string{"ALSO", "POD"},
	}
	for _, f := range r.Flows {
		if len(f.Effects) > 0 {
			t.Extra = []string{"POD"}
		}
	}
	for _, f := range r.Flows {
		if len(f.Messages) == 0 {
			addFlow(t, f, &f.Answer, f.Name)
		}
		for i := range f.Messages {
			m := &f.Messages[i]
			addFlow(t, f, &m.Answer, messageName(m))
		}
	}
	return t
}

func addFlow(t *text.Table, f *trial.Flow, a *trial.Answer, name string) {
	packet := "-"
	if a.Packet > 0 {
		packet = strconv.Itoa(a.Packet)
	}
	t.Add(f.Client, f.Server, f.Protocol, cmp.Or(f.App, "-"), cmp.Or(name, "-"), a.Verdict,
		ruleName(a.RuleSet, a.Rule), packet, cmp.Or(a.Error, "-"),
		cmp.Or(effectTexts(f.Effects), "-"), cmp.Or(f.Pod, "-"))
}

// ruleName returns set/rule, and the rule alone where it is in no set.
func ruleName(ruleSet, rule string) string {
	if ruleSet == "" {
		return rule
	}
	return ruleSet + "/" + rule
}

// messageName says what a message asks for.
func messageName(m *trial.Message) string {
	switch {
	case m.Method != "":
		return m.Method + " " + m.Name + m.Path
	case m.Response:
		return m.Name + " " + m.Type + ", answer"
	case m.Type != "":
		return m.Name + " " + m.Type
	}
	return m.Name
}
