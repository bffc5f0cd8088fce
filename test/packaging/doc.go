// Package packaging installs, upgrades, removes and purges the packages in a root of their
// own (debootstrap), where no daemon is started. It takes what `make package` has made, and
// a Debian mirror: TIMEBALL_PACKAGES=dist go test -v ./test/packaging.
package packaging
