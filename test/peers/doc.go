// Package peers gives tests timeball itself and the NTP programs that it must get along
// with, a network of namespaces for them to run in, and what an attacker on it would have.
// Nothing is installed: timeball is built once, and Debian's packages are unpacked into the
// user's cache directory. In a namespace no program can touch the clock: each starts
// without CAP_SYS_TIME, in the bounding set too, so that it can never get it back.
//
// A test that cannot have what it needs (no root, no namespaces, no packages) is
// skipped with the reason. What needs nothing but timeball runs on this machine, Here.
package peers
