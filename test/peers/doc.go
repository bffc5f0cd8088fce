// Package peers gives tests the NTP programs that timeball must get along with, and a
// network of namespaces for them to run in. Nothing is installed: Debian's packages are
// unpacked into the user's cache directory. No program can touch the clock: each starts
// without CAP_SYS_TIME, in the bounding set too, so that it can never get it back.
//
// A test that cannot have what it needs (no root, no namespaces, no packages) is
// skipped with the reason.
package peers
