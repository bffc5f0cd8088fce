package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the messages into the bad files instead of comparing them")

const wantPrefix = "# want: "

// messages gives the problems of a file without its name, as the corpus has them.
func messages(problems []Problem) []string {
	var lines []string
	for _, p := range problems {
		lines = append(lines, strings.TrimPrefix(p.String(), p.File+":"))
	}
	return lines
}

// TestBadFiles reads each file of testdata/bad; its first lines say, behind "# want: ",
// every message it must give, in order and letter by letter.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 100 {
		t.Fatalf("got %d bad files (%v), want at least 100", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				rewrite(t, file, data)
				return
			}
			var want []string
			for line := range strings.Lines(string(data)) {
				if text, found := strings.CutPrefix(line, wantPrefix); found {
					want = append(want, strings.TrimSuffix(text, "\n"))
				}
			}
			c, problems := Parse(file, data)
			got := messages(problems)
			if !slices.Equal(got, want) || len(want) == 0 {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if c != nil {
				t.Error("got a configuration beside the problems, want none")
			}
		})
	}
}

// rewrite puts the messages of now into a file; they are to be read before they are
// committed.
func rewrite(t *testing.T, file string, data []byte) {
	var body strings.Builder
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, wantPrefix) {
			body.WriteString(line)
		}
	}
	_, problems := Parse(file, []byte(body.String()))
	head := strings.Repeat("#\n", len(problems))
	_, problems = Parse(file, []byte(head+body.String()))
	head = ""
	for _, line := range messages(problems) {
		head += wantPrefix + line + "\n"
	}
	if err := os.WriteFile(file, []byte(head+body.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestMessagesSayWhatToDo holds every message of the corpus to its form: what is
// wrong, a semicolon, and what to do.
func TestMessagesSayWhatToDo(t *testing.T) {
	files, _ := filepath.Glob("testdata/bad/*.yaml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, problems := Parse(file, data)
		for i, p := range problems {
			if !strings.Contains(p.Message, "; ") {
				t.Errorf("%s: got %q, want what is wrong; what to do", file, p.Message)
			}
			if p.Line < 1 || p.Column < 1 || i > 0 && p.Line < problems[i-1].Line {
				t.Errorf("%s: got %d:%d behind line %d, want them sorted, from 1:1", file, p.Line, p.Column, problems[max(i-1, 0)].Line)
			}
		}
	}
}

func TestGoodFiles(t *testing.T) {
	files, _ := filepath.Glob("testdata/good/*.yaml")
	if len(files) < 5 {
		t.Fatalf("got %d good files, want at least 5", len(files))
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c, problems := Parse(file, data)
		if c == nil || len(problems) > 0 {
			t.Errorf("got problems, want none:\n%s", strings.Join(messages(problems), "\n"))
		}
	}
}

// TestGeneratedBad reads what no editor should have to show.
func TestGeneratedBad(t *testing.T) {
	tests := []struct{ name, data, want string }{
		{"a NUL byte", "log: {level: info}\n# \x00\n", "2:3: holds the control character 0x00; a configuration is plain text"},
		{"an escape character", "log: {level: \x1binfo}", "1:14: holds the control character 0x1b; a configuration is plain text"},
		{"UTF-16 with its mark", "\xff\xfel\x00o\x00g\x00", "1:1: is not UTF-8 text (byte 0xff); write the file as plain UTF-8"},
		{"Latin 1", "# Z\xfcrich\nlog: {}\n", "1:4: is not UTF-8 text (byte 0xfc); write the file as plain UTF-8"},
		{"an ELF file", "\x7fELF\x02\x01\x01\x00", "1:1: holds the control character 0x7f; a configuration is plain text"},
		{"a C1 control character", "log: {level: \u0080}", "1:14: holds the control character 0x80; a configuration is plain text"},
		{"one byte too many", strings.Repeat("#", MaxSize+1), "1:1: is larger than 1024 KiB; this is not a configuration of timeball"},
		{"ten thousand open brackets", "log: " + strings.Repeat("[", 20000), "1:1: is not YAML: exceeded max depth of 10000; check the indentation of this line and the one before"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, problems := Parse("c", []byte(test.data))
			if got := strings.Join(messages(problems), "\n"); got != test.want || c != nil {
				t.Errorf("got %v and %q, want nil and %q", c, got, test.want)
			}
		})
	}
}

// TestEndlessProblems bounds the list of problems, and the time that it takes.
func TestEndlessProblems(t *testing.T) {
	var data strings.Builder
	for i := 0; data.Len() < MaxSize-100; i++ {
		fmt.Fprintf(&data, "unknown%d: 1\n", i)
	}
	_, problems := Parse("c", []byte(data.String()))
	if len(problems) != maxProblems+1 {
		t.Fatalf("got %d problems, want %d and the one that says so", len(problems), maxProblems)
	}
	if got, want := problems[maxProblems].Message, "more than 500 problems; mend these first"; got != want {
		t.Errorf("got %q last, want %q", got, want)
	}
}

// TestManyRows bounds the lists.
func TestManyRows(t *testing.T) {
	_, problems := Parse("c", []byte("sources: ["+strings.Repeat("{},", maxRows+1)+"]"))
	if got, want := strings.Join(messages(problems), "\n"), "1:10: sources: has 4097 entries; up to 4096 are possible"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzParse(f *testing.F) {
	for _, folder := range []string{"bad", "good"} {
		files, _ := filepath.Glob("testdata/" + folder + "/*.yaml")
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, problems := Parse("c", data)
		if (c == nil) != (len(problems) > 0) {
			t.Fatalf("got configuration %v and %d problems, want one of both", c != nil, len(problems))
		}
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.Message == "" || strings.ContainsAny(p.String(), "\n\x00") {
				t.Fatalf("got %q, want one line with a place", p)
			}
		}
		if c == nil {
			return
		}
		if plan := Diff(c, c); !plan.Empty() {
			t.Fatalf("got plan %+v for no change, want none", plan)
		}
		for i := range c.Sources {
			if c.Sources[i].Name() == "" {
				t.Fatalf("got a source without name: %+v", c.Sources[i])
			}
		}
	})
}
