// Package daemon tries the built binary as its user would: as a process, with files,
// signals and limits. Everything happens on the loopback interface, with virtual clocks.
package daemon
