// Package user tries what the documents tell their reader to type.
package user

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"timeball/internal/cli"
	"timeball/internal/config"
)

const root = "../.."

// documents are the pages with something to copy.
func documents(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	if err != nil || len(found) < 8 {
		t.Fatalf("got %d documents, want 8 or more (%v)", len(found), err)
	}
	return append(found, filepath.Join(root, "README.md"))
}

// block is a fenced block of a document.
type block struct{ text, where string }

var fence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// blocks finds the fenced blocks of one language.
func blocks(t *testing.T, language string) (found []block) {
	t.Helper()
	for _, path := range documents(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range fence.FindAllStringSubmatch(string(text), -1) {
			if match[1] == language {
				first, _, _ := strings.Cut(match[2], "\n")
				found = append(found, block{match[2], filepath.Base(path) + ", at " + first})
			}
		}
	}
	return found
}

// sectionLine begins a section of a configuration at the margin. A block without one is
// a list of keys, a scenario or another program's file.
var sectionLine = regexp.MustCompile(`(?m)^(sources|server|symmetric|local|keys|clock|selection|metrics|control|log):`)

// scenarioLine is what only scenarios have.
var scenarioLine = regexp.MustCompile(`(?m)^(hosts|duration|links|groups|scrape_configs|events|expect):`)

func TestEveryConfigurationInTheDocumentsIsGood(t *testing.T) {
	tried := 0
	for _, b := range blocks(t, "yaml") {
		if !sectionLine.MatchString(b.text) || scenarioLine.MatchString(b.text) {
			continue
		}
		tried++
		if c, problems := config.Parse("timeball.yaml", []byte(b.text)); c == nil {
			t.Errorf("%s: %v", b.where, problems)
		}
	}
	if tried < 15 {
		t.Errorf("got %d configurations tried, want 15 or more", tried)
	}
}

// The examples are good and draw no warning.
func TestEveryExampleConfigurationIsGood(t *testing.T) {
	for _, name := range []string{"timeball.yaml", "server.yaml", "nts-client.yaml", "nts-server.yaml"} {
		text, err := os.ReadFile(filepath.Join(root, "configs", name))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		_, warnings, err := config.Load(path)
		if err != nil || len(warnings) > 0 {
			t.Fatalf("%s: got %v, %v, want neither problem nor warning", name, err, warnings)
		}
	}
}

// What is commented out in the server's example is good too. Its key file is not here,
// so a key in place stands for it.
func TestWhatTheServerExampleCommentsOutIsGood(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "configs/server.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	commented := regexp.MustCompile(`(?m)^( *)#([a-z]+: )`)
	whole := commented.ReplaceAllString(string(text), "$1$2")
	whole = regexp.MustCompile(`(?m)^keys: .*$`).ReplaceAllString(whole, "keys: [{id: 10, type: aes128-cmac, hex: 2b7e151628aed2a6abf7158809cf4f3c}]")
	c, problems := config.Parse("server.yaml", []byte(whole))
	if c == nil {
		t.Fatalf("got %v, want it good", problems)
	}
	if len(c.Server.Broadcast) != 1 || len(c.Server.Ignore) != 1 || len(c.Keys) != 1 {
		t.Errorf("got %+v, want what was commented out in force", c.Server)
	}
}

// commandLines finds the calls of timeball in the shell examples: the words up to a
// comment, a pipe or the end of the line.
func commandLines(t *testing.T) (found []block) {
	t.Helper()
	for language, prompt := range map[string]string{"sh": `(?:sudo )?`, "": `\$ (?:sudo )?`} {
		call := regexp.MustCompile(`(?m)^` + prompt + `timeball ([^#|>;&\n]*)`)
		for _, b := range blocks(t, language) {
			for _, match := range call.FindAllStringSubmatch(b.text, -1) {
				found = append(found, block{strings.TrimSpace(match[1]), b.where})
			}
		}
	}
	if len(found) < 22 {
		t.Fatalf("got %d calls of timeball in the documents, want 22 or more", len(found))
	}
	return found
}

var (
	helpFlag = regexp.MustCompile(`(?m)^ +(?:(-\w), )?(--[a-z-]+)`)
	negative = regexp.MustCompile(`^-[0-9]`) // a number below zero is no flag
	usage    = regexp.MustCompile(`(?m)^  timeball ([a-z-]+)`)
)

// flagsOf gives the flags of a command; none if there is no such command.
func flagsOf(command string) (flags []string) {
	var out, errors bytes.Buffer
	if cli.Main([]string{command, "--help"}, &out, &errors) != 0 {
		return nil
	}
	if match := usage.FindStringSubmatch(out.String()); match == nil || match[1] != command {
		return nil // the help of the program: cobra found no such command
	}
	for _, match := range helpFlag.FindAllStringSubmatch(out.String(), -1) {
		flags = append(flags, match[1:]...)
	}
	return flags
}

func TestEveryCommandLineInTheDocumentsIsUnderstood(t *testing.T) {
	for _, line := range commandLines(t) {
		words := strings.Fields(line.text)
		flags := flagsOf(words[0])
		if flags == nil {
			t.Errorf("%s: timeball %s: no such command", line.where, line.text)
			continue
		}
		for _, word := range words[1:] {
			word, _, _ = strings.Cut(word, "=")
			if strings.HasPrefix(word, "-") && !negative.MatchString(word) && !slices.Contains(flags, word) {
				t.Errorf("%s: timeball %s: no flag %s", line.where, line.text, word)
			}
		}
	}
}

// A file that a document names as part of this repository is there.
func TestFilesThatTheDocumentsNameAreThere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	for _, path := range documents(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), match[1])); err != nil {
				t.Errorf("%s leads to %s: %v", filepath.Base(path), match[1], err)
			}
		}
	}
	for _, line := range commandLines(t) {
		for _, word := range strings.Fields(line.text) {
			if !strings.HasPrefix(word, "configs/") && !strings.HasPrefix(word, "test/") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, word)); err != nil {
				t.Errorf("%s: timeball %s: %v", line.where, line.text, err)
			}
		}
	}
}
