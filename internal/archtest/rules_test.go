package archtest

import (
	"go/importer"
	"go/token"
	"path"
	"strings"
	"testing"
)

// house builds a tree of one file; its name says which package it is in.
func house(t *testing.T, name, text string) *Tree {
	t.Helper()
	tree := &Tree{fset: token.NewFileSet()}
	p := &Package{Path: path.Dir(name)}
	if err := p.add(tree.fset, name, []byte(text)); err != nil {
		t.Fatalf("parse: %v", err)
	}
	tree.Packages = []*Package{p}
	return tree
}

// judge fails the test unless exactly one finding holds the words wanted; with no
// words there must be none.
func judge(t *testing.T, found []string, want string) {
	t.Helper()
	switch {
	case want == "" && len(found) > 0:
		t.Errorf("found: got %q, want nothing", found)
	case want != "" && (len(found) != 1 || !strings.Contains(found[0], want)):
		t.Errorf("found: got %q, want one with %q", found, want)
	}
}

func TestCheckRooms(t *testing.T) {
	judge(t, CheckRooms(house(t, "internal/attic/attic.go", "package attic")), "give it a room")
	judge(t, CheckRooms(house(t, "internal/wire/wire.go", "package wire")), "")
	judge(t, CheckRooms(house(t, "test/peers/peers.go", "package peers")), "")
}

func TestCheckLayers(t *testing.T) {
	tests := []struct{ name, file, imports, want string }{
		{"a higher layer imports a lower one", "internal/system/a.go", `"timeball/internal/model"`, ""},
		{"a lower one never a higher", "internal/model/a.go", `"timeball/internal/system"`, "never imports a higher one"},
		{"the core never an edge", "internal/association/a.go", `"timeball/internal/netio"`, "layer 1"},
		{"edges do not know each other", "internal/metrics/a.go", `"timeball/internal/control"`, "of its own layer"},
		{"a leaf below its like", "internal/wire/a.go", `"timeball/internal/ntptime"`, ""},
		{"and not the other way round", "internal/ntptime/a.go", `"timeball/internal/wire"`, "of its own layer"},
		{"system stands over filter", "internal/system/a.go", `"timeball/internal/filter"`, ""},
		{"filter does not know system", "internal/filter/a.go", `"timeball/internal/system"`, "of its own layer"},
		{"nothing of test/ gets into the program", "internal/daemon/a.go", `"timeball/test/peers"`, "no room of the program"},
		{"the standard library is no matter of layers", "internal/wire/a.go", `"fmt"`, ""},
		{"x/net is for netio", "internal/netio/a.go", `"golang.org/x/net/ipv4"`, ""},
		{"and for nobody else", "internal/daemon/a.go", `"golang.org/x/net/ipv6"`, "only netio may"},
		{"a prefix is not a part of a word", "internal/netio/a.go", `"golang.org/x/netting"`, "does not have"},
		{"an unknown module is refused", "internal/cli/a.go", `"example.org/module"`, "does not have"},
		{"cobra is for the command line", "internal/daemon/a.go", `"github.com/spf13/cobra"`, "only cli may"},
		{"tests may import what they like", "internal/model/a_test.go", `"timeball/internal/system"`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			judge(t, CheckLayers(house(t, tt.file, "package a\nimport "+tt.imports)), tt.want)
		})
	}
}

func TestCheckPurity(t *testing.T) {
	const pure, test, edge = "internal/filter/a.go", "internal/filter/a_test.go", "internal/netio/a.go"
	now := "package a\nimport \"time\"\nvar x = time.Now()"
	tests := []struct{ name, file, text, want string }{
		{"the clock is not read", pure, now, "uses time.Now"},
		{"an edge may", edge, now, ""},
		{"and so may a test", test, now, ""},
		{"a renamed import is seen through", pure, "package a\nimport c \"time\"\nvar x = c.Since", "uses time.Since"},
		{"a package of that name is no clock", pure, "package a\nvar x = time.Now()", ""},
		{"a duration is no clock", pure, "package a\nimport \"time\"\nvar x = time.Second", ""},
		{"no timer", pure, "package a\nimport \"time\"\nvar x *time.Timer", "uses time.Timer"},
		{"no goroutine", pure, "package a\nfunc f() { go f() }", "starts a goroutine"},
		{"no channel", pure, "package a\nvar c chan int", "has a channel"},
		{"no sending", pure, "package a\nfunc f() { c <- 1 }", "sends on a channel"},
		{"no receiving", pure, "package a\nvar x = <-c", "receives from a channel"},
		{"no select", pure, "package a\nfunc f() { select {} }", "selects among channels"},
		{"no lock", pure, "package a\nimport \"sync\"\nvar m sync.Mutex", "imports sync,"},
		{"no file", pure, "package a\nimport \"os\"", "imports os,"},
		{"no process", pure, "package a\nimport \"os/exec\"", "imports os/exec,"},
		{"config may read its own file", "internal/config/load.go", "package config\nimport \"os\"", ""},
		{"but only there", "internal/config/parse.go", "package config\nimport \"os\"", "imports os,"},
		{"no socket", pure, "package a\nimport \"net\"", "imports net,"},
		{"an address is a value", pure, "package a\nimport \"net/netip\"", ""},
		{"no randomness of its own", pure, "package a\nimport \"math/rand/v2\"", "imports math/rand/v2,"},
		{"nor the system's", pure, "package a\nimport \"crypto/rand\"", "imports crypto/rand,"},
		{"counters are for the responder", pure, "package a\nimport \"sync/atomic\"", "imports sync/atomic,"},
		{"who has readers beside it", "internal/responder/a.go", "package a\nimport \"sync/atomic\"", ""},
		{"and still no lock", "internal/responder/a.go", "package a\nimport \"sync\"", "imports sync,"},
		{"nothing without its package's name", pure, "package a\nimport . \"time\"", "without their package"},
		{"nothing is printed", pure, "package a\nfunc f() { println(1) }", "prints"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			judge(t, CheckPurity(house(t, tt.file, tt.text)), tt.want)
		})
	}
}

func TestCheckMapOrder(t *testing.T) {
	const head = "package a\nimport (\n\"maps\"\n\"slices\"\n)\nvar m map[int]int\nvar s []int\nvar _ = maps.Clone(m)\nvar _ = slices.Max(s)\n"
	tests := []struct{ name, text, want string }{
		{"a map is not ranged over", "func f() { for range m {} }", "ranges over a map"},
		{"a slice may be", "func f() { for range s {} }", ""},
		{"nor a map of a type of its own", "type T map[int]int\nfunc f(t T) { for range t {} }", "ranges over a map"},
		{"unless a word says why", "func f() {\nfor range m { //order: a sum of integers\n}\n}", ""},
		{"also on the line before", "func f() {\n//order: a sum of integers\nfor range m {\n}\n}", ""},
		{"no word, no excuse", "func f() {\nfor range m { //order:\n}\n}", "ranges over a map"},
		{"keys come sorted", "func f() { for range slices.Sorted(maps.Keys(m)) {} }", ""},
		{"or not at all", "func f() { for range maps.Keys(m) {} }", "maps.Keys"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tree := house(t, "internal/filter/a.go", head+tt.text)
			imports := importer.ForCompiler(tree.fset, "source", nil)
			judge(t, mapOrder(tree.fset, tree.Packages[0], []string{"a.go"}, imports), tt.want)
		})
	}
}

func TestCheckGoroutines(t *testing.T) {
	const text = "package a\nfunc f() { go f() }"
	judge(t, CheckGoroutines(house(t, "internal/clock/a.go", text)), "starts a goroutine")
	judge(t, CheckGoroutines(house(t, "internal/daemon/a.go", text)), "")
	judge(t, CheckGoroutines(house(t, "internal/clock/a_test.go", text)), "")
}

func TestCheckClockCalls(t *testing.T) {
	const set = "package a\nimport \"golang.org/x/sys/unix\"\nvar x = unix.Adjtimex"
	const raw = "package a\nimport \"syscall\"\nvar x = syscall.SYS_CLOCK_SETTIME"
	judge(t, CheckClockCalls(house(t, "internal/netio/a.go", set)), "only internal/clock")
	judge(t, CheckClockCalls(house(t, "internal/netio/a_test.go", set)), "only internal/clock")
	judge(t, CheckClockCalls(house(t, "test/peers/a.go", raw)), "only internal/clock")
	judge(t, CheckClockCalls(house(t, "internal/clock/a.go", set)), "")
	judge(t, CheckClockCalls(house(t, "internal/daemon/a.go", "package a\nvar x = fake.Adjtimex")), "")
}

func TestCheckSizes(t *testing.T) {
	function := func(lines int) string { return "package a\nfunc f() {" + strings.Repeat("\n", lines-1) + "}" }
	judge(t, CheckSizes(house(t, "internal/a/a.go", function(longestFunction))), "")
	judge(t, CheckSizes(house(t, "internal/a/a.go", function(longestFunction+1))), "f has 61 lines")
	judge(t, CheckSizes(house(t, "internal/a/a_test.go", function(longestFunction+1))), "")
	judge(t, CheckSizes(house(t, "internal/a/a.go", "package a"+strings.Repeat("\n", longestFile+1))), "501 lines")
	judge(t, CheckSizes(house(t, "internal/a/a.go", "package a"+strings.Repeat("\n", longestFile))), "")
}

func TestUnwantedWords(t *testing.T) {
	judge(t, unwantedWords("a.md", []byte("fine\n"+unwanted[0]+"\n")), "a.md:2")
	judge(t, unwantedWords("a.md", []byte("fine\n")), "")
}

func TestDialectWords(t *testing.T) {
	judge(t, dialectWords("a.md", []byte("fine\nthe timestamp is "+dialect[0].not+" late\n")), `a.md:2: says "struck"`)
	judge(t, dialectWords("a.md", []byte("a construcktion, set late\n")), "")
	judge(t, dialectWords("CHANGELOG.md", []byte(dialect[0].not)), "")
}

func TestCheckMeaning(t *testing.T) {
	text := `package daemon
import "timeball/internal/association"
var c = association.Config{}`
	judge(t, CheckMeaning(house(t, "internal/daemon/a.go", text)), "makes a association.Config")
	judge(t, CheckMeaning(house(t, "internal/daemon/a_test.go", text)), "")
	judge(t, CheckMeaning(house(t, "internal/engine/a.go", text)), "")
}

func TestCheckDoors(t *testing.T) {
	judge(t, CheckDoors(house(t, "internal/wire/a.go", `package wire`)), "may import internal/ntptime and does not")
	judge(t, CheckDoors(house(t, "internal/wire/a.go", `package wire
import "timeball/internal/ntptime"
var _ ntptime.Raw`)), "")
}

func TestCheckOptions(t *testing.T) {
	const options = `package netio
type Options struct { Size int; hidden bool }
`
	user := house(t, "internal/daemon/a.go", `package daemon
import _ "timeball/internal/netio"`).Packages[0]
	for _, test := range []struct{ text, want string }{
		{options, "nothing but tests sets Options.Size"},
		{options + `var o = Options{Size: 1}`, ""},
		{options + `func f(o *Options) { o.Size = 2 }`, ""},
	} {
		tree := house(t, "internal/netio/a.go", test.text)
		judge(t, CheckOptions(tree), "") // a room that nobody uses yet
		tree.Packages = append(tree.Packages, user)
		judge(t, CheckOptions(tree), test.want)
	}
}
