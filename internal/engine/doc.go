// Package engine is what a configuration means, written once for every driver: the
// settings of the system process, of associations and of the responder; which
// associations a host has, and what a packet may mobilize; the upkeep of pools and
// names; and the loop that carries out what the core wants. The daemon and the simulator
// only add what differs: goroutines, sockets and a clock here, an event heap, links and
// oscillators there.
package engine
