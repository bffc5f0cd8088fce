// Package vm proves timeball on a real kernel clock and under a live systemd: in a
// machine of QEMU with Debian 12, where it is installed by `make install`. The true
// error is measured past the network, by a page of memory that the guest writes and we
// read. The clock of this machine is only read. `make vm` runs it (root; debootstrap,
// qemu-system-x86); elsewhere its tests are skipped.
package vm
