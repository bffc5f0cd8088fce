package docs

import (
	"bytes"
	"go/ast"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"timeball/internal/cli"
)

// read returns a document.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sections cuts a document at its headings of a level, and gives each its heading.
func sections(text, level string) map[string]string {
	found := map[string]string{}
	for part := range strings.SplitSeq("\n"+text, "\n"+level+" ") {
		heading, rest, _ := strings.Cut(part, "\n")
		found[heading] = rest
	}
	return found
}

var (
	commandLine = regexp.MustCompile(`(?m)^  ([a-z-]+) +[A-Z]`)
	flagLine    = regexp.MustCompile(`(?m)^ +(?:(-\w), )?(--[a-z-]+)`)
)

func help(t *testing.T, args ...string) string {
	t.Helper()
	var out, errors bytes.Buffer
	if status := cli.Main(append(args, "--help"), &out, &errors); status != 0 {
		t.Fatalf("timeball %v --help: got status %d, want 0: %s", args, status, errors.String())
	}
	return out.String()
}

// commands returns the program's commands, each with its flags, long and short.
func commands(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, match := range commandLine.FindAllStringSubmatch(help(t), -1) {
		name := match[1]
		if name == "help" {
			continue
		}
		found[name] = nil
		for _, flag := range flagLine.FindAllStringSubmatch(help(t, name), -1) {
			if flag[2] == "--help" {
				continue
			}
			found[name] = append(found[name], flag[2])
			if flag[1] != "" {
				found[name] = append(found[name], flag[1])
			}
		}
	}
	if len(found) < 15 {
		t.Fatalf("got %d commands of timeball --help, want 15 or more: is the pattern still right?", len(found))
	}
	return found
}

// reportFlags are told once, at the head of their chapter.
var reportFlags = []string{"--json", "--watch", "-w", "--interval", "--socket"}

// requestFlags are those of the commands that change the daemon, told as well at the head.
var requestFlags = []string{"--json", "--socket"}

func TestCommandsHasEveryCommandAndFlag(t *testing.T) {
	text := read(t, "docs/commands.md")
	chapters := sections(text, "##")
	common, _, _ := strings.Cut(chapters["Reports of a running daemon"], "\n### ")
	for _, flag := range reportFlags {
		if !strings.Contains(common, "`"+flag+"`") {
			t.Errorf("the chapter on reports does not tell of %s", flag)
		}
	}
	requests, _, _ := strings.Cut(chapters["Changing a running daemon"], "\n### ")
	for _, flag := range requestFlags {
		if !strings.Contains(requests, "`"+flag+"`") {
			t.Errorf("the chapter on changes does not tell of %s", flag)
		}
	}
	described := sections(text, "###")
	for name, flags := range commands(t) {
		section, ok := described["timeball "+name]
		if !ok {
			t.Errorf("commands.md has no section on timeball %s", name)
			continue
		}
		isReport := strings.Contains(chapters["Reports of a running daemon"], "\n### timeball "+name+"\n")
		if strings.Contains(chapters["Changing a running daemon"], "\n### timeball "+name+"\n") {
			isReport, flags = false, slices.DeleteFunc(flags, func(f string) bool { return slices.Contains(requestFlags, f) })
		}
		for _, flag := range flags {
			if !strings.Contains(section, "`"+flag+"`") && !(isReport && slices.Contains(reportFlags, flag)) && !strings.Contains(section, "timeball "+name+" "+flag) {
				t.Errorf("timeball %s: %s is not told of", name, flag)
			}
		}
	}
}

func TestCommandsNamesNoCommandOrFlagThatIsNot(t *testing.T) {
	all := commands(t)
	for heading, section := range sections(read(t, "docs/commands.md"), "###") {
		name, found := strings.CutPrefix(heading, "timeball ")
		if !found {
			continue
		}
		flags, known := all[name]
		if !known {
			t.Errorf("commands.md tells of timeball %s, which is not", name)
			continue
		}
		section, _, _ = strings.Cut(section, "\n## ")
		for _, match := range regexp.MustCompile("`(--?[a-z][a-z-]*)`").FindAllStringSubmatch(section, -1) {
			if !slices.Contains(flags, match[1]) {
				t.Errorf("timeball %s has no flag %s", name, match[1])
			}
		}
	}
}

// keysOf gathers the JSON keys of the structs of a package, those of its exported types
// and of the ones named besides.
func keysOf(t *testing.T, dir string, besides ...string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	eachDeclaration(t, false, []string{dir}, func(_ string, d ast.Decl) {
		g, ok := d.(*ast.GenDecl)
		if !ok {
			return
		}
		for _, spec := range g.Specs {
			s, ok := spec.(*ast.TypeSpec)
			if !ok || !s.Name.IsExported() && !slices.Contains(besides, s.Name.Name) {
				continue
			}
			if structure, ok := s.Type.(*ast.StructType); ok {
				if keys := jsonKeys(structure); len(keys) > 0 {
					found[s.Name.Name] = keys
				}
			}
		}
	})
	return found
}

func jsonKeys(s *ast.StructType) (keys []string) {
	for _, field := range s.Fields.List {
		if field.Tag == nil {
			continue
		}
		tag := reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("json")
		if key, _, _ := strings.Cut(tag, ","); key != "" && key != "-" {
			keys = append(keys, key)
		}
	}
	return keys
}

func TestCommandsHasEveryJSONKeyAndNoOther(t *testing.T) {
	types := keysOf(t, "internal/control")
	delete(types, "Request") // what commands send
	types["Query"] = keysOf(t, "internal/cli", "queried")["queried"]
	types["Lab"] = keysOf(t, "internal/lab")["HostState"]
	if len(types) < 18 {
		t.Fatalf("got %d types of reports, want 18 or more", len(types))
	}
	described := sections(read(t, "docs/commands.md"), "###")
	firstCell := regexp.MustCompile("(?m)^\\| (`[^|]*) \\|")
	name := regexp.MustCompile("`([a-z_]+)`")
	for kind, keys := range types {
		var told []string
		for _, row := range firstCell.FindAllStringSubmatch(described[kind], -1) {
			for _, key := range name.FindAllStringSubmatch(row[1], -1) {
				told = append(told, key[1])
			}
		}
		for _, key := range keys {
			if !slices.Contains(told, key) {
				t.Errorf("%s: the key %q is not told of", kind, key)
			}
		}
		for _, key := range told {
			if !slices.Contains(keys, key) {
				t.Errorf("%s: tells of %q, which is no key", kind, key)
			}
		}
	}
}

// Metrics that a document names are in the reference of metrics; what is a key of the
// configuration is none.
func TestDocumentsNameMetricsThatThereAre(t *testing.T) {
	reference, keys := read(t, "docs/metrics.md"), read(t, "docs/configuration.md")
	metric := regexp.MustCompile(`\bntp_[a-z_]+[a-z]\b`)
	for _, document := range documents(t) {
		for _, name := range metric.FindAllString(read(t, document), -1) {
			if !strings.Contains(reference, "| `"+name+"` |") && !strings.Contains(keys, "."+name+"` |") {
				t.Errorf("%s names %s, which is no metric", document, name)
			}
		}
	}
}

// Keys of the configuration that a document names by their path are in its reference.
func TestDocumentsNameKeysThatThereAre(t *testing.T) {
	reference := read(t, "docs/configuration.md")
	key := regexp.MustCompile("`((?:server|symmetric|local|clock|selection|metrics|control|log)\\.[a-z_.]+)`")
	for _, document := range documents(t) {
		if document == "docs/simulate.md" {
			continue // a scenario has keys of its own
		}
		for _, match := range key.FindAllStringSubmatch(read(t, document), -1) {
			if !strings.Contains(reference, "| `"+match[1]+"` |") {
				t.Errorf("%s names %s, which is no key", document, match[1])
			}
		}
	}
}
