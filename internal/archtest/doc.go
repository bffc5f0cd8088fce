// Package archtest holds the house together: which package may import which, that the
// protocol core stays pure, who may start goroutines, who may touch the system clock,
// and how long a function or a file may be. The rules are tables in rooms.go; the tests
// apply them to the whole tree. Purity that nobody guards is gone within a year.
package archtest
