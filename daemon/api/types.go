// SPDX-License-Identifier: Apache-2.0

// Package api is the contract between nsqueue's programs: the types that cross
// the daemon's unix socket, a client, and the HTTP handler that serves them.
// It imports nothing but the standard library, because it is linked into the
// CNI plugin, which runs at every pod start.
package api

import (
	"fmt"
	"time"
	"unicode/utf8"
)

// DefaultSocket is where the daemon listens and its clients connect.
const DefaultSocket = "/run/nsqueue/nsqueued.sock"

// Origin says what asked for an attachment.
type Origin string

// The origins. Garbage collection (CNI GC) only ever touches OriginCNI.
const (
	OriginCNI     Origin = "cni"
	OriginAdopted Origin = "adopted"
	OriginManual  Origin = "manual"
)

// Policy is what happens to a pod's packets when they cannot be inspected.
type Policy string

// The policies, named as in Kubernetes admission webhooks.
const (
	// Ignore keeps the pod's network alive: packets pass uninspected.
	Ignore Policy = "Ignore"
	// Fail drops what cannot be inspected.
	Fail Policy = "Fail"
)

// Validate reports whether p is one of the two policies.
func (p Policy) Validate() error {
	if p != Ignore && p != Fail {
		return fmt.Errorf("failure policy %q: want %q or %q", string(p), Ignore, Fail)
	}
	return nil
}

// State is where an attachment is in its life.
type State string

// An attachment moves through its states in this order.
const (
	Attaching State = "attaching"
	Active    State = "active"
	Detaching State = "detaching"
	// NotInspected is no state of an attachment: it answers the call to attach a pod of a
	// node that nsqueue leaves.
	NotInspected State = "notInspected"
)

// Key identifies an attachment: one interface of one container.
type Key struct {
	ContainerID string `json:"containerID"`
	Ifname      string `json:"ifname"`
}

// String returns the key as containerID/ifname.
func (k Key) String() string { return k.ContainerID + "/" + k.Ifname }

// The lengths of the two parts: a file name can be made of the first, the
// second is the kernel's (IFNAMSIZ).
const (
	maxContainerID = 200
	maxIfname      = 15
)

// validContainerID is the CNI specification's rule. A regular expression for it
// took 0.8 ms to compile, at every start of the plugin.
func validContainerID(id string) bool {
	for i := range len(id) {
		c := id[i]
		alphanumeric := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alphanumeric && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return id != "" && len(id) <= maxContainerID
}

// validIfname is the kernel's rule (dev_valid_name), which goes by bytes and
// has Latin-1's no-break space among the white space. Besides, a name must be
// UTF-8: JSON has no other text.
func validIfname(name string) bool {
	for i := range len(name) {
		switch c := name[i]; c {
		case 0, '/', ':', ' ', '\t', '\n', '\v', '\f', '\r', 0xa0:
			return false
		}
	}
	return name != "" && len(name) <= maxIfname && name != "." && name != ".." &&
		utf8.ValidString(name)
}

// Validate checks both parts by the rules of the CNI specification. A valid
// key can be part of a file name and of a URL path.
func (k Key) Validate() error {
	if !validContainerID(k.ContainerID) {
		return fmt.Errorf("container ID %q: want up to %d letters, digits, '_', '.' or '-', "+
			"the first a letter or digit", k.ContainerID, maxContainerID)
	}
	if !validIfname(k.Ifname) {
		return fmt.Errorf("interface name %q: want 1 to %d bytes of UTF-8, no '/', ':' or "+
			"white space, not '.' or '..'", k.Ifname, maxIfname)
	}
	return nil
}

// Canonical returns the key as JSON carries it, with the replacement character
// for each byte that is no UTF-8. Attachments of older versions may be known by
// such a name, so that calls which end one go by it.
func (k Key) Canonical() Key {
	return Key{
		ContainerID: string([]rune(k.ContainerID)), Ifname: string([]rune(k.Ifname)),
	}
}

// Pod is the Kubernetes identity of an attachment, where it has one.
type Pod struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	UID       string `json:"uid,omitempty"`
}

// String returns namespace/name, or "-" where the pod is unknown.
func (p Pod) String() string {
	switch {
	case p.Name == "":
		return "-"
	case p.Namespace == "":
		return p.Name
	}
	return p.Namespace + "/" + p.Name
}

// Netns identifies a network namespace. The cookie is its identity (the kernel
// never reuses one); the path is only how it was found.
type Netns struct {
	Cookie uint64 `json:"cookie"`
	Dev    uint64 `json:"dev"`
	Ino    uint64 `json:"ino"`
	Path   string `json:"path,omitempty"`
}

// Queue is one NFQUEUE of an attachment's netns.
type Queue struct {
	Number uint16 `json:"number"`
	Length uint32 `json:"length"`
}

// Attachment is one pod interface under inspection.
type Attachment struct {
	Key
	Network       string    `json:"network,omitempty"`
	Origin        Origin    `json:"origin"`
	Pod           Pod       `json:"pod"`
	Netns         Netns     `json:"netns"`
	Hook          string    `json:"hook"`
	State         State     `json:"state"`
	FailurePolicy Policy    `json:"failurePolicy"`
	Queues        []Queue   `json:"queues"`
	Counters      Counters  `json:"counters"`
	Created       time.Time `json:"created"`
	// Warnings are what was wrong with the pod's annotations and arguments.
	Warnings []string `json:"warnings,omitempty"`
	// Annotations are those of the pod that were passed on when it was attached.
	Annotations map[string]string `json:"annotations,omitempty"`
	// Reader is what judges its packets; daemons of before do not tell.
	Reader *Reader `json:"reader,omitempty"`
	// Labels are those of the pod, as they were when it started; nil if they have not come.
	Labels map[string]string `json:"labels,omitzero"`
	// Programs are those that run for the pod.
	Programs []Program `json:"programs,omitempty"`
}

// Program is one that runs in a pod's netns and reads a queue there.
type Program struct {
	// Name is the inspector's.
	Name  string `json:"name"`
	Queue uint16 `json:"queue"`
	// PID is 0 while it does not run.
	PID int `json:"pid,omitempty"`
	// Ready: packets go to it.
	Ready bool `json:"ready"`
	// Since is when the daemon first knew the process.
	Since    *time.Time `json:"since,omitempty"`
	Restarts uint64     `json:"restarts"`
	// LastEnd says how it ended last.
	LastEnd string `json:"lastEnd,omitempty"`
	Problem string `json:"problem,omitempty"`
	// Usage is in descriptions only.
	Usage *ProgramUsage `json:"usage,omitempty"`
}

// ProgramUsage is what a program and all that it has started use.
type ProgramUsage struct {
	// MemoryBytes now, 0 where that is not known.
	MemoryBytes int64 `json:"memoryBytes,omitempty"`
	// CPUSeconds of all that ran in the pod's netns so far.
	CPUSeconds float64 `json:"cpuSeconds"`
}

// AttachmentList is the answer to a list call.
type AttachmentList struct {
	Attachments []Attachment `json:"attachments"`
}

// AttachRequest asks the daemon to inspect a netns. The netns itself travels
// as a descriptor beside the request (see [Client.Attach]); NetnsPath is the
// fallback for clients that cannot pass one.
type AttachRequest struct {
	Key
	Network   string `json:"network,omitempty"`
	Origin    Origin `json:"origin"`
	Pod       Pod    `json:"pod"`
	NetnsPath string `json:"netnsPath,omitempty"`
	// FailurePolicy is the daemon's default where empty.
	FailurePolicy Policy `json:"failurePolicy,omitempty"`
	// Warnings are what the client refused or ignored on the way here. The
	// daemon shows them, because runtimes discard a plugin's standard error. Both
	// sides take no more of them than [LimitWarnings] leaves.
	Warnings []string `json:"warnings,omitempty"`
	// Annotations are those of the pod that inspectors get to see. Both sides take
	// no more of them than [LimitAnnotations] leaves. A second request for the same
	// attachment does not change them.
	Annotations map[string]string `json:"annotations,omitempty"`
	// Traceparent is the trace that the client's call is part of, as W3C Trace
	// Context writes it. The daemon logs it with what it does to the attachment.
	Traceparent string `json:"traceparent,omitempty"`
}

// WarningReport tells of a pod that is not attached, because it is not inspected
// or was refused, what is wrong with its annotations or arguments.
type WarningReport struct {
	Key
	Pod Pod `json:"pod"`
	// Warnings are bounded as those of an [AttachRequest].
	Warnings []string `json:"warnings"`
}

// MaxName is the length of the longest name of a pod or network, in bytes:
// Kubernetes gives no longer ones, and runtimes make file names of them.
const MaxName = 253

// Validate checks everything that can be checked without the netns.
func (r *AttachRequest) Validate() error {
	if err := r.Key.Validate(); err != nil {
		return err
	}
	switch r.Origin {
	case OriginCNI, OriginAdopted, OriginManual:
	default:
		return fmt.Errorf("origin %q: want %q, %q or %q", string(r.Origin),
			OriginCNI, OriginAdopted, OriginManual)
	}
	for name, value := range map[string]string{
		"network": r.Network, "pod namespace": r.Pod.Namespace, "pod name": r.Pod.Name,
		"pod UID": r.Pod.UID,
	} {
		if len(value) > MaxName {
			return fmt.Errorf("%s %.60q...: %d bytes, want at most %d", name, value, len(value),
				MaxName)
		}
	}
	if r.Traceparent != "" && !ValidTraceparent(r.Traceparent) {
		return fmt.Errorf("traceparent %.60q: want that of W3C Trace Context", r.Traceparent)
	}
	if r.FailurePolicy == "" {
		return nil
	}
	return r.FailurePolicy.Validate()
}

// DetachRequest asks for the end of an attachment.
type DetachRequest struct {
	Key
	// PodEnded says that the pod has ended, as a CNI DEL does. Where really no
	// process is left in its netns, the daemon does not wait for packets that
	// are on their way through the kernel.
	PodEnded bool
}

// DetachResult is the answer to detaching everything.
type DetachResult struct {
	Detached int `json:"detached"`
}

// CollectRequest asks to detach every attachment of Network with OriginCNI
// that is not in Valid (CNI GC).
type CollectRequest struct {
	Network string `json:"network"`
	Valid   []Key  `json:"validAttachments"`
}

// HookStatus says which hook serves new attachments, and why.
type HookStatus struct {
	Kind   string `json:"kind"`
	Detail string `json:"detail"`
	Reason string `json:"reason"`
	// Persistent: an armed hook outlives the daemon. Where it does not, pods
	// under Fail pass packets uninspected while no daemon runs.
	Persistent bool `json:"persistent"`
	// Flaws are what the kernel lacks for all that the hook could do.
	Flaws []Flaw `json:"flaws,omitempty"`
}

// Flaw is something that works, but not as well as it could.
type Flaw struct {
	What   string `json:"what"`
	Remedy string `json:"remedy"`
}

// Problem is an attachment whose packets are not inspected as they should be:
// under Ignore they pass uninspected, under Fail they are dropped, but for those
// with PastHook or Inspector.
type Problem struct {
	Key
	Pod           Pod    `json:"pod"`
	FailurePolicy Policy `json:"failurePolicy"`
	Message       string `json:"message"`
	// PastHook: packets pass uninspected under either policy, because they never
	// meet the hook.
	PastHook bool `json:"pastHook,omitempty"`
	// Inspector: it panicked or exceeded its budget of late. The packets that it
	// did not decide got the policy's verdict, the others are inspected.
	Inspector bool `json:"inspector,omitempty"`
	// Program: one that is to read the pod's packets does not, or is slow. With Inspector,
	// no packets are lost for it.
	Program bool `json:"program,omitempty"`
}

// Doubts are about attachments of which the daemon cannot tell whether their pods
// live. It inspects them as before. A DEL that was lost does not heal there.
type Doubts struct {
	Attachments int `json:"attachments"`
	// Key and Pod are of one of them, and Reason says what cannot be seen for it.
	Key    Key    `json:"key"`
	Pod    Pod    `json:"pod"`
	Reason string `json:"reason"`
}

// SupervisorKind says what restarts the daemon and keeps its queues meanwhile.
type SupervisorKind string

// The supervisors.
const (
	Systemd      SupervisorKind = "systemd"
	Supervise    SupervisorKind = "supervise" // nsqueued supervise
	NoSupervisor SupervisorKind = "none"
)

// Supervisor is what restarts the daemon.
type Supervisor struct {
	Kind SupervisorKind `json:"kind"`
	PID  int            `json:"pid,omitempty"`
	// Restarts after a death; unknown, and zero, under systemd.
	Restarts int `json:"restarts"`
	// Stored descriptors, of Capacity that the supervisor keeps while the daemon
	// does not run.
	Stored   int `json:"stored,omitempty"`
	Capacity int `json:"capacity,omitempty"`
	// Handover is absent where no other supervisor can take over.
	Handover *Handover `json:"handover,omitempty"`
}

// Handover is what a supervisor is among those of its hand-over directory.
type Handover struct {
	Role SupervisorRole `json:"role"`
	// Since when it has the role.
	Since time.Time `json:"since"`
	// Instance is whose supervisor it is.
	Instance string `json:"instance,omitempty"`
	// Peers are the others that are connected with it.
	Peers []HandoverPeer `json:"peers,omitempty"`
	// TakeOvers is how often it has taken over from another one, and Refusals how many
	// others wanted to and did not.
	TakeOvers   int              `json:"takeOvers"`
	Refusals    int              `json:"refusals"`
	LastRefusal *HandoverRefusal `json:"lastRefusal,omitempty"`
	// Ending: it was told to end, and waits for a successor.
	Ending bool `json:"ending,omitempty"`
}

// HandoverPeer is another supervisor.
type HandoverPeer struct {
	Role     SupervisorRole `json:"role"`
	Version  string         `json:"version"`
	Instance string         `json:"instance,omitempty"`
	// Since when it is connected.
	Since time.Time `json:"since"`
}

// HandoverRefusal is a supervisor that wanted to take over, and why it did not.
type HandoverRefusal struct {
	At       time.Time `json:"at"`
	Version  string    `json:"version"`
	Instance string    `json:"instance,omitempty"`
	Reason   string    `json:"reason"`
}

// Descriptors are the files that the daemon has open. A Limit of zero says that
// it is not known.
type Descriptors struct {
	Open  int    `json:"open"`
	Limit uint64 `json:"limit"`
	// Room is how many more pods can be attached, each with a netns of its own.
	Room int `json:"room"`
}

// Buffers are the receive buffers of all queues' sockets, in bytes as the kernel
// counts them.
type Buffers struct {
	Queues int `json:"queues"`
	// Wanted is what each queue is to have, Each what it is asked for, so that all
	// of them stay within Total.
	Wanted int `json:"wanted"`
	Each   int `json:"each"`
	Total  int `json:"total"`
	// Possible is how much of Each the kernel grants.
	Possible int `json:"possible"`
}

// Status is the state of the daemon as a whole.
type Status struct {
	Version       string     `json:"version"`
	PID           int        `json:"pid"`
	Supervisor    Supervisor `json:"supervisor"`
	Started       time.Time  `json:"started"`
	StateDir      string     `json:"stateDir"`
	FailurePolicy Policy     `json:"failurePolicy"`
	Hook          HookStatus `json:"hook"`
	Attachments   int        `json:"attachments"`
	// Retired: nsqueue leaves the node, and inspects nothing any more.
	Retired  bool     `json:"retired,omitempty"`
	Counters Counters `json:"counters"`
	// Untold says why ends of rejected packets were not told, and is absent where all
	// were.
	Untold *Untold `json:"untold,omitempty"`
	// Orphans are packets that a daemon before this one had read but not
	// answered when it died. They got the policy's verdict.
	Orphans  uint64    `json:"orphans"`
	Problems []Problem `json:"problems"`
	// Doubts are absent where there are none.
	Doubts *Doubts `json:"doubts,omitempty"`
	// Spooled are calls of the plugin that are not carried out so far.
	Spooled     int         `json:"spooled"`
	Descriptors Descriptors `json:"descriptors"`
	Buffers     Buffers     `json:"buffers"`
	// Rules are absent where the daemon has none.
	Rules *RulesState `json:"rules,omitempty"`
	// Inspectors are those outside the daemon, in the order of its configuration.
	Inspectors []InspectorState `json:"inspectors,omitempty"`
	// Labels tells of the source of pods' labels, nil without rules.
	Labels *LabelsState `json:"labels,omitempty"`
	// Place is where the daemon runs; daemons of before do not tell.
	Place *Place `json:"place,omitempty"`
}

// Untold counts rejected packets of which an end was not told, since the daemon has
// started, by why.
type Untold struct {
	// TooMany were more a second than are answered in a pod.
	TooMany uint64 `json:"tooMany"`
	// NoSocket had no raw socket to be answered by. SocketError is the last reason, and
	// NotPermitted says that the daemon may not have one.
	NoSocket     uint64 `json:"noSocket"`
	SocketError  string `json:"socketError,omitempty"`
	NotPermitted bool   `json:"notPermitted,omitempty"`
	// Unsent had an answer that the pod's kernel did not take, the last one because of
	// SendError.
	Unsent    uint64 `json:"unsent"`
	SendError string `json:"sendError,omitempty"`
}

// Ready says whether pods may be sent here. Its error is an [*Error] with
// [CodeLimited] when pods under Fail are losing packets already; those under
// Ignore have their network in any case.
func (s *Status) Ready() error {
	var first *Problem
	n := 0
	for i := range s.Problems {
		if p := &s.Problems[i]; p.FailurePolicy == Fail && !p.PastHook && !p.Inspector {
			if n++; first == nil {
				first = p
			}
		}
	}
	if r := s.Rules; r != nil && r.Loaded == nil {
		return &Error{
			Code: CodeLimited, Msg: "no rules are in force: pods under Fail lose all packets",
			Details: r.Problem,
		}
	}
	if first == nil {
		return nil
	}
	return &Error{
		Code: CodeLimited,
		Msg:  fmt.Sprintf("%d attachments under Fail are losing packets", n),
		Details: fmt.Sprintf("one is %s of pod %s: %.200s",
			first.Key, first.Pod, first.Message),
	}
}

// EventKind says what an [Event] is about.
type EventKind string

// The kinds of events.
const (
	// EventAttach: a pod is inspected from now on.
	EventAttach EventKind = "attach"
	// EventDetach: a pod is not inspected any more, as it was called for.
	EventDetach EventKind = "detach"
	// EventTakeOver: a pod of an earlier daemon is inspected again.
	EventTakeOver EventKind = "takeOver"
	// EventOrphans: packets that a dead daemon had read but not answered got
	// the policy's verdict.
	EventOrphans EventKind = "orphans"
	// EventRepair: the kernel did not have what it should, and has it again.
	EventRepair EventKind = "repair"
	// EventOverload: packets get the policy's verdict, because a queue is full or
	// the inspector takes too long.
	EventOverload EventKind = "overload"
	// EventPanic: packets got the policy's verdict, because the inspector panicked.
	EventPanic EventKind = "panic"
	// EventLostDetach: a pod disappeared without a DEL, and was detached.
	EventLostDetach EventKind = "lostDetach"
	// EventSecurity: another program in the netns is in the way of inspection.
	EventSecurity EventKind = "security"
	// EventFailure: packets of the pod are not inspected; it is tried again.
	EventFailure EventKind = "failure"
	// EventWarning: annotations or arguments of the pod make no sense or are
	// refused.
	EventWarning EventKind = "warning"
	// EventPastHook: packets of the pod pass uninspected, because they never meet
	// the hook.
	EventPastHook EventKind = "pastHook"
	// EventProgram: a program that reads the pod's packets has started, ended, or hangs.
	EventProgram EventKind = "program"
	// EventRules: other rules came into force, or files of rules were refused.
	EventRules EventKind = "rules"
	// EventDoubt: it cannot be told whether the pod lives; it stays attached.
	EventDoubt EventKind = "doubt"
	// EventRefusal: rules refused something of the pod's.
	EventRefusal EventKind = "refusal"
	// EventAudit: rules would have refused it, if their set did not only audit.
	EventAudit EventKind = "audit"
	// EventInspector: an inspector outside the daemon came, went, or does not keep up.
	EventInspector EventKind = "inspector"
)

// Routine reports that events of the kind are many, and need no attention.
func (k EventKind) Routine() bool {
	return k == EventAttach || k == EventDetach || k == EventTakeOver
}

// EventKinds returns all kinds.
func EventKinds() []EventKind {
	return []EventKind{
		EventAttach, EventDetach, EventTakeOver, EventOrphans, EventRepair, EventOverload,
		EventPanic, EventLostDetach, EventSecurity, EventFailure, EventWarning, EventPastHook,
		EventDoubt, EventProgram, EventRules, EventRefusal, EventAudit, EventInspector,
	}
}

// Event is something that happened to an attachment.
type Event struct {
	Time time.Time `json:"time"`
	Kind EventKind `json:"kind"`
	Key
	Pod Pod `json:"pod"`
	// Netns is the cookie of the attachment's netns.
	Netns   uint64 `json:"netns"`
	Message string `json:"message"`
	// Refusal is there where the kind is refusal or audit.
	Refusal Refusal `json:"refusal,omitzero"`
}

// EventList is the answer to an events call, the oldest event first.
type EventList struct {
	Events []Event `json:"events"`
}
