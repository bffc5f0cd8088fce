//go:build race

package system

// The race detector makes the rows ten times slower and has nothing to find in
// them: the core has no goroutines.
const underRace = true
