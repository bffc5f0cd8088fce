package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing wrong with a file, or worth a warning.
type Problem struct {
	File    string
	Line    int    // from 1
	Column  int    // from 1
	Path    string // of the key, like sources[2].min_poll; empty for the whole file
	Message string // what is wrong; what to do
}

// String gives FILE:LINE:COL: path: message.
func (p Problem) String() string {
	where := fmt.Sprintf("%s:%d:%d: ", p.File, p.Line, p.Column)
	if p.Path != "" {
		where += p.Path + ": "
	}
	return where + p.Message
}

// sameBut says whether two problems differ in their path at most.
func (p Problem) sameBut(q Problem) bool {
	q.Path = p.Path
	return p == q
}

// Problems is every problem of a configuration, sorted by line: an error with one
// line for each.
type Problems []Problem

// Error joins the problems, one a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

// Warnings are traps: a configuration that is valid, and perhaps not what is meant.
type Warnings []Problem

// sortProblems sorts by place, and leaves what stands at the same place in order.
func sortProblems(list []Problem) {
	slices.SortStableFunc(list, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}
