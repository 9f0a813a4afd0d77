// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/cgroup"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/hook/kmod"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/nri"
)

// What a configuration file must say of itself.
const (
	APIVersion = "nsqueue.io/v1alpha1"
	ConfigKind = "DaemonConfiguration"
)

// Config is the daemon's configuration, in a file or from a program that
// embeds the daemon. Start from [DefaultConfig]. The comments of its fields are the
// configuration reference's.
type Config struct {
	// APIVersion of the file. Required; this is the only version.
	APIVersion string `json:"apiVersion"`
	// Kind of the file. Required; this is the only kind.
	Kind string `json:"kind"`
	// Socket is the path of the unix socket where the API listens.
	Socket string `json:"socket"`
	// StateDir holds files that must survive a restart of nsqueued, but not a reboot.
	StateDir string `json:"stateDir"`
	// Hook is what queues packets: auto, nft or kmod. auto uses the kernel module
	// where it is loaded, else nftables; kmod loads the module.
	Hook string `json:"hook"`
	// KmodPath is the file of the module for hook kmod; empty means the installed one.
	KmodPath string `json:"kmodPath,omitempty"`
	// KmodSysctls is the directory of the network's sysctls, by which hook kmod is told what
	// to do. In a container those at /proc/sys/net are read-only: mount the node's elsewhere.
	KmodSysctls string `json:"kmodSysctls"`
	// Cgroups is the directory of the node's control groups, where the programs of
	// inspectors (exec) have groups of their own. In a container: where the node's
	// /sys/fs/cgroup is mounted, so that programs outlive it.
	Cgroups string `json:"cgroups"`
	// FailurePolicy of pods whose attach request names none: Ignore or Fail.
	FailurePolicy api.Policy `json:"failurePolicy"`
	// LogLevel is debug, info, warn or error.
	LogLevel api.LogLevel `json:"logLevel"`
	// LogFormat is text or json.
	LogFormat string `json:"logFormat"`
	// MetricsAddress is the TCP address that Prometheus scrapes, as host:port with a
	// numeric host or none; empty means that no TCP port is opened.
	MetricsAddress string        `json:"metricsAddress"`
	Metrics        MetricsConfig `json:"metrics"`
	Observe        ObserveConfig `json:"observe"`
	// Directions of packets that are queued: in, out, forward.
	Directions []string `json:"directions"`
	// Protocols of packets that are queued, by name or number; none means all.
	Protocols []string `json:"protocols"`
	// MarkMask are the bits of the packet mark that the inspector may set.
	MarkMask uint32      `json:"markMask"`
	Queue    QueueConfig `json:"queue"`
	// InspectBudget is how long the inspector may take for a batch of at most 64
	// packets. After that, the failure policy decides about the batch. 0s is no limit.
	InspectBudget Duration `json:"inspectBudget"`
	// SettleAfterPackets lets the kernel decide the rest of a flow, in both
	// directions, once the inspector has accepted this many of its packets; 0
	// leaves settling to inspectors that do it themselves.
	SettleAfterPackets uint32       `json:"settleAfterPackets"`
	Settle             SettleConfig `json:"settle"`
	Adopt              AdoptConfig  `json:"adopt"`
	Rules              RulesConfig  `json:"rules"`
	// Inspectors are programs outside nsqueued that judge packets: see below.
	Inspectors []InspectorConfig `json:"inspectors,omitempty"`
	Labels     LabelsConfig      `json:"labels"`
}

// SettleConfig is about flows that the kernel decides.
type SettleConfig struct {
	// Timeout is how long a flow stays settled, busy or not, before its packets are
	// inspected again. A new TCP connection is inspected in any case.
	Timeout Duration `json:"timeout"`
	// Flows is how many flows can be settled at a time, in each netns.
	Flows uint32 `json:"flows"`
}

// QueueConfig is how each netns' queue is bound.
type QueueConfig struct {
	// Number of the queue in the pod's netns; of several queues, the first one's.
	Number uint16 `json:"number"`
	// Count is how many queues share a pod's packets; 0 means one. Both directions of
	// a flow use the same queue. Each queue has a reader of its own.
	Count uint16 `json:"count"`
	// Length is how many packets may wait in a queue for a verdict.
	Length uint32 `json:"length"`
	// CopyRange is how many bytes of each packet the inspector gets, at most.
	CopyRange uint32 `json:"copyRange"`
	// ReceiveBuffer of each queue's socket, in bytes as the kernel counts them.
	ReceiveBuffer int `json:"receiveBuffer"`
	// ReceiveBufferTotal is what all receive buffers may take together, in bytes.
	// Where there are too many queues for it, each gets half, a quarter and so on.
	ReceiveBufferTotal int `json:"receiveBufferTotal"`
	// Coalesce is how long nsqueued may leave packets of a busy queue waiting, to
	// take more of them at once, which saves processor time. The kernel adds about
	// 50us. 0s means never.
	Coalesce Duration `json:"coalesce"`
}

// DefaultConfig returns the configuration of a daemon that is told nothing.
func DefaultConfig() Config {
	return Config{
		APIVersion:    APIVersion,
		Kind:          ConfigKind,
		Socket:        api.DefaultSocket,
		StateDir:      filepath.Dir(api.DefaultSocket),
		Hook:          hookAuto,
		KmodSysctls:   kmod.DefaultSysctls,
		Cgroups:       cgroup.DefaultMounts,
		FailurePolicy: api.Ignore,
		LogLevel:      api.LogInfo,
		LogFormat:     LogText,
		Metrics:       MetricsConfig{PerPod: true},
		Directions:    []string{"in", "out", "forward"},
		MarkMask:      0xff000000,
		Queue: QueueConfig{
			Number:        nfqueue.DefaultNumber,
			Length:        nfqueue.DefaultLength,
			CopyRange:     nfqueue.MaxCopyRange,
			ReceiveBuffer: nfqueue.DefaultReceiveBuffer,
			Count:         1, ReceiveBufferTotal: 1 << 30,
			Coalesce: Duration(nfqueue.DefaultCoalesce),
		},
		InspectBudget: Duration(time.Second),
		Settle:        SettleConfig{Timeout: Duration(time.Minute), Flows: 1 << 16},
		Adopt:         defaultAdopt(),
		Rules:         RulesConfig{Memory: defaultRulesMemory},
		Labels:        LabelsConfig{Source: labelsAuto, Socket: nri.DefaultSocket},
	}
}

// LoadConfig reads a YAML file over the defaults. A key that it does not know,
// or that occurs twice, is an error.
func LoadConfig(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, err
	}
	c, err := parseConfig(b)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, withLines(b, err))
	}
	return c, nil
}

func parseConfig(b []byte) (Config, error) {
	c := DefaultConfig()
	c.APIVersion, c.Kind = "", ""
	asJSON, err := yaml.YAMLToJSONStrict(b)
	if err != nil {
		return Config{}, err
	}
	dec := json.NewDecoder(bytes.NewReader(asJSON))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Config{}, err
	}
	if c.APIVersion != APIVersion || c.Kind != ConfigKind {
		return Config{}, fmt.Errorf("apiVersion %q, kind %q: want %q and %q",
			c.APIVersion, c.Kind, APIVersion, ConfigKind)
	}
	return c, c.Validate()
}

// Validate reports everything that is wrong with the configuration.
func (c *Config) Validate() error {
	queue := c.Queue.nfqueue()
	_, directionsErr := c.directions()
	_, protocolsErr := c.protocols()
	selector := hook.Selector{
		Queue: c.Queue.Number, Queues: c.Queue.Count, Directions: hook.AllDirections,
		Settle: c.settle(true),
	}
	errs := []error{
		selector.Validate(), c.InspectBudget.validate("inspectBudget", minBudget, 0),
		c.Queue.Coalesce.validate("queue.coalesce", minCoalesce, maxCoalesce),
		absolute("socket", c.Socket), absolute("stateDir", c.StateDir),
		absolute("kmodSysctls", c.KmodSysctls), absolute("cgroups", c.Cgroups),
		c.FailurePolicy.Validate(), queue.Validate(), c.Queue.validateTotal(),
		c.LogLevel.Validate(), validateLogFormat(c.LogFormat),
		validateMetricsAddress(c.MetricsAddress), c.Observe.validate(),
		directionsErr, protocolsErr, c.Adopt.validate(), c.Rules.validate(),
		c.validateInspectors(),
		c.Labels.validate(),
	}
	if !slices.Contains([]string{hookAuto, string(hook.NFTables), string(hook.Module)}, c.Hook) {
		errs = append(errs, fmt.Errorf("hook %q: want auto, nft or kmod", c.Hook))
	}
	return errors.Join(errs...)
}

// validateTotal refuses a total that is less than what any queue may be given.
func (q *QueueConfig) validateTotal() error {
	if q.ReceiveBufferTotal < nfqueue.MinReceiveBuffer {
		return fmt.Errorf("queue.receiveBufferTotal %d: want at least %d",
			q.ReceiveBufferTotal, nfqueue.MinReceiveBuffer)
	}
	return nil
}

func absolute(field, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s %q: want an absolute path", field, path)
	}
	return nil
}

func (c *Config) directions() (hook.Directions, error) {
	var set hook.Directions
	for _, name := range c.Directions {
		switch name {
		case "in":
			set |= hook.In
		case "out":
			set |= hook.Out
		case "forward":
			set |= hook.Forward
		default:
			return 0, fmt.Errorf("direction %q: want in, out or forward", name)
		}
	}
	if set == 0 {
		return 0, errors.New("directions: want at least one of in, out, forward")
	}
	return set, nil
}

func (c *Config) protocols() ([]uint8, error) {
	var protocols []uint8
	for _, name := range c.Protocols {
		p, ok := inspect.ProtocolNumber(strings.ToLower(name))
		if !ok {
			return nil, fmt.Errorf("protocol %q: want a name such as tcp, or 0 to 255", name)
		}
		protocols = append(protocols, p)
	}
	return protocols, nil
}

// settle returns the hook's setting; on says whether flows are settled at all.
func (c *Config) settle(on bool) hook.Settle {
	if !on {
		return hook.Settle{}
	}
	return hook.Settle{
		Generation: 1, Timeout: time.Duration(c.Settle.Timeout), Size: c.Settle.Flows,
	}
}

func (q *QueueConfig) nfqueue() nfqueue.Config {
	return nfqueue.Config{
		Number: q.Number, Length: q.Length, CopyRange: q.CopyRange, ReceiveBuffer: q.ReceiveBuffer,
	}
}
