// Package interop has the tests of the timeball binary against other NTP programs, in
// network namespaces (see test/peers), and the tests of what is installed with it.
package interop
