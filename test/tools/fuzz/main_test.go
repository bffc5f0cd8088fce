package main

import (
	"reflect"
	"testing"
	"time"
)

func TestParseList(t *testing.T) {
	const out = `FuzzDecode
FuzzExtension
ok  	timeball/internal/wire	0.003s
?   	timeball/cmd/timeball	[no test files]
ok  	timeball/internal/model	0.002s
FuzzLoad
ok  	timeball/internal/config	0.010s
`
	want := []target{
		{"timeball/internal/wire", "FuzzDecode"},
		{"timeball/internal/wire", "FuzzExtension"},
		{"timeball/internal/config", "FuzzLoad"},
	}
	if got := parseList(out); !reflect.DeepEqual(got, want) {
		t.Errorf("targets: got %v, want %v", got, want)
	}
}

func TestShare(t *testing.T) {
	tests := []struct {
		name  string
		total time.Duration
		n     int
		want  time.Duration
	}{
		{"no target still has a time", time.Minute, 0, time.Second},
		{"equal parts", time.Minute, 30, 2 * time.Second},
		{"parts are cut to a tenth of a second", 10 * time.Second, 7, 1400 * time.Millisecond},
		{"never less than a second", time.Minute, 600, time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := share(tt.total, tt.n); got != tt.want {
				t.Errorf("share: got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestEndedByDeadline(t *testing.T) {
	tests := []struct {
		name string
		out  string
		want bool
	}{
		{"the go command's own deadline is no failure", "--- FAIL: FuzzX (2.1s)\n    context deadline exceeded\nFAIL\n", true},
		{"an input that fails is one", "--- FAIL: FuzzX\n    context deadline exceeded\n    Failing input written to testdata\n", false},
		{"so is a panic", "context deadline exceeded\npanic: index out of range\n", false},
		{"and anything else", "build failed\n", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := endedByDeadline(tt.out); got != tt.want {
				t.Errorf("endedByDeadline: got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestDeclares(t *testing.T) {
	for text, want := range map[string]bool{
		"func FuzzDecode(f *testing.F) {":            true,
		"// func FuzzDecode(f *testing.F) ":          false,
		"func TestFuzz(t *testing.T) {":              false,
		"func fuzzHelper(f *testing.F) {":            false,
		"package x\n\nfunc FuzzA(f *testing.F) {\n}": true,
	} {
		if got := declares.MatchString(text); got != want {
			t.Errorf("%q declares a target: got %v, want %v", text, got, want)
		}
	}
}
