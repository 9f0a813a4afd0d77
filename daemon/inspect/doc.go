// SPDX-License-Identifier: Apache-2.0

// Package inspect has the types of an inspector: it gets a [Packet] and answers a
// [Verdict]. It imports only the standard library, and nothing in it allocates
// memory for a packet.
//
// # Writing an inspector
//
// An inspector is a type with the method Inspect, or a function made one by
// [Func]:
//
//	func noTelnet(p *inspect.Packet) inspect.Verdict {
//		f, ok := p.Flow()
//		if ok && f.Protocol == inspect.ProtoTCP && f.DestinationPort == 23 {
//			return inspect.Verdict{Action: inspect.Drop}
//		}
//		return inspect.Verdict{Action: inspect.Accept}
//	}
//
// Hand it to Run of package github.com/nsqueue/nsqueue/daemon/node: the program
// that does so is a daemon like nsqueued, with this inspector in it.
//
// # Rules for Inspect
//
//   - It is called by one goroutine per queue, and by those of different queues
//     at the same time. State that packets share needs a lock, or atomics.
//   - Packets wait while it works. It decides by what it has in memory, and never
//     waits for a network or a disk. The daemon allows a time for a batch of at
//     most 64 packets (inspectBudget, 1 s by default).
//   - The packet and its payload are the daemon's again when Inspect returns. It
//     copies what it keeps, and never writes to them.
//   - Pods send what they like. [Packet.Flow] returns false for headers that are
//     malformed or cut off; say what happens to such packets, too.
//   - Where Inspect panics, takes too long or answers the zero Verdict, the failure
//     policy decides: Ignore accepts, Fail drops.
//
// # Memory for each pod
//
// An [AttachmentObserver] is told when the packets of an [Attachment] begin and end
// to come, so that what it keeps for a pod goes with the pod.
//
// # Batches
//
// A [BatchInspector] gets the packets that have come to a queue all at once: for
// inspectors whose work has a part that is the same for one packet and for many, such
// as a lock to take or a message to send.
//
// # Deferred verdicts
//
// An inspector that cannot decide yet, because the rest of a message is to come or
// because it has to ask somebody, must not wait in Inspect. It declares [Needs].Defers,
// calls [Packet.Defer] and answers the action [Defer]. The packet waits in the kernel,
// other packets do not. [Deferred.Release] gives the verdict, from any goroutine; after
// a limit that the inspector has chosen the failure policy does.
//
// # Direction and addresses
//
// Packets are seen from the pod: [In] to its sockets, [Out] from them, [Forward]
// through it. A packet Out to a Kubernetes Service has the Service's address as
// its destination; a packet In from a client of the Service has the pod's own
// address and port. Loopback is never inspected. docs/inspectors.md says more.
//
// # Checksums
//
// The hook comes before the socket, and so before its look at the checksum. Who reads
// what a packet says to a program, and would be deceived by a packet that no program
// gets, asks [VerifyChecksum] where the Checksum of the packet is [ChecksumUnverified],
// and drops what is wrong.
//
// # Settling flows
//
// An inspector that has seen enough of a flow asks the kernel to decide the rest
// (Settle in the [Verdict]), and saves the time of the round trip through it. It
// declares that by [Needs]. When its rules change, a [Changer] has all settled
// flows inspected again.
//
// An [AttachmentChanger] has those of some pods inspected again. With an
// [AttachmentDigester], flows stay settled while the daemon restarts. An
// [AttachmentDeclarer] says for each pod how much of its packets it needs.
//
// # Rejecting packets
//
// [Reject] drops a packet and tells the ends of its flow, which [Drop] leaves waiting.
//
// # Marks and replacements
//
// A verdict may set bits of the packet's mark, for routing or traffic control,
// and may replace the packet (Payload), which an inspector must declare.
//
// # Testing an inspector
//
// A Packet is a plain struct. Tests make one from bytes and call Inspect, without
// a kernel, a pod or root; the examples of this package do that. Its Deferrer takes
// the place of the daemon where the inspector defers verdicts.
package inspect
