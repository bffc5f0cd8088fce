// Package engine is what a configuration means, written once for every driver: the
// settings of the system process, of associations and of the responder; which
// associations a host has, and what a packet may mobilize; the upkeep of pools and
// names; and the duty of carrying out what the core wants. The daemon and the simulator
// only add what differs: goroutines, sockets and a clock here, an event heap, links and
// oscillators there.
//
// # A driver's duty
//
// A driver owns three things and calls each from one goroutine: Associations (the set),
// a PeerProcess for each association in it, and the SystemProcess.
//
// Associations fills Changes. After each call the driver
//
//  1. stops what is in Stop: no packet of it is sent any more, and the system process has
//     RemoveSource called;
//  2. starts what is in Start, in this order: a PeerProcess by its Config, and, where it
//     IsSource, AddSource before its first sample or status; a ReferenceProcess by its
//     Config stands for a reference clock the same way; AddSource is called again for what
//     is in Options;
//  3. gives up the names in Forget, and then looks up those in Resolve, in the background,
//     and brings each outcome to Resolved or NotResolved; a name may be in both;
//  4. hands what Idle returns to SystemProcess.SetIdle, where Changes.Idle is set.
//
// A packet that Route delivers goes to its PeerProcess after 1 and 2. When a PeerProcess
// calls Ended, the driver calls Associations.Ended before it forgets the status.
//
// A PeerProcess carries out the association's output in this order: packets are sent, and
// the association is told when each left, before anything else (a timestamp taken later
// is a worse one); events are recorded; the sample goes to the system process, then the
// status, which tells what the server of that very sample says of itself; Ended is last.
//
// A SystemProcess carries out the system's output in this order: hints; events; the panic
// gate is closed before the correction that used it is applied, so that no crash between
// the two gives a second one; the correction is applied, associations are told if the clock
// was stepped, and the core hears what the clock really did before it hears anything else;
// what follows from that is carried out the same way, until nothing is left; then the state
// is published, once. The driver tells of jumps and leap seconds of the clock before it
// delivers what has come in meanwhile.
package engine
