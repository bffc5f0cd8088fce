package docs

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// testName is a test in a document. Names in examples of style, without backquotes
// around them alone, do not count.
var testName = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Za-z0-9_]+)`")

// documents are the pages that users and developers read.
func documents(t *testing.T) []string {
	t.Helper()
	names := []string{"README.md", "CHANGELOG.md"}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			name, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
		}
	}
	if len(names) < 12 {
		t.Fatalf("got %d documents, want 12 or more", len(names))
	}
	return names
}

// tests gives the names of all tests.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	eachDeclaration(t, true, []string{"internal", "test"}, func(_ string, d ast.Decl) {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
			names[f.Name.Name] = true
		}
	})
	return names
}

func TestDocumentsNameTestsThatThereAre(t *testing.T) {
	names := tests(t)
	for _, document := range documents(t) {
		for _, match := range testName.FindAllStringSubmatch(read(t, document), -1) {
			if !names[match[1]] {
				t.Errorf("%s names %s, which is no test", document, match[1])
			}
		}
	}
}

func TestEveryRuleTestedIsInTheTable(t *testing.T) {
	text := read(t, "docs/RFC.md")
	for name := range tests(t) {
		if strings.HasPrefix(name, "TestRFC") && !strings.Contains(text, "`"+name+"`") {
			t.Errorf("RFC.md does not name %s; add the rule that it holds", name)
		}
	}
}

func TestThreatsHasARowForEach(t *testing.T) {
	const threats = 52
	rows := map[int]int{}
	row := regexp.MustCompile(`(?m)^\| (\d+) \| (.*) \|$`)
	for _, match := range row.FindAllStringSubmatch(read(t, "docs/threats.md"), -1) {
		number, _ := strconv.Atoi(match[1])
		rows[number]++
		if !strings.Contains(match[2], "`Test") && !strings.Contains(match[2], "| not done: ") {
			t.Errorf("threats %d: neither a test nor the words that it is not done", number)
		}
	}
	for number := 1; number <= threats; number++ {
		if rows[number] != 1 {
			t.Errorf("threats %d: got %d rows, want 1", number, rows[number])
		}
	}
	if len(rows) != threats {
		t.Errorf("got %d rows, want %d", len(rows), threats)
	}
}

// cited finds what the comments of the program cite by number: of one kind, "threats
// 12" or "threats 12 to 14 and 18", or "peers, §3".
func cited(t *testing.T, pattern *regexp.Regexp) map[int]string {
	t.Helper()
	found := map[int]string{}
	for _, dir := range []string{"internal", "cmd", "test"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.Contains(path, "test/docs") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, match := range pattern.FindAllStringSubmatch(string(text), -1) {
				for _, digits := range regexp.MustCompile(`\d+`).FindAllString(match[1], -1) {
					number, _ := strconv.Atoi(digits)
					found[number] = path
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

func TestThreatsAndPeersThatTheCodeCitesAreThere(t *testing.T) {
	threats := cited(t, regexp.MustCompile(`[Tt]hreats? (\d+(?:(?: to | and )\d+)*)`))
	if len(threats) < 15 {
		t.Fatalf("got %d numbers cited, want 15 or more: is the pattern still right?", len(threats))
	}
	for number, path := range threats {
		if !strings.Contains(read(t, "docs/threats.md"), "\n| "+strconv.Itoa(number)+" | ") {
			t.Errorf("%s cites threats %d, which is no row of threats.md", path, number)
		}
	}
	for number, path := range cited(t, regexp.MustCompile(`\bpeers,? §(\d+)`)) {
		if !strings.Contains(read(t, "docs/peers.md"), "\n## §"+strconv.Itoa(number)+" ") {
			t.Errorf("%s cites peers §%d, which is no section of peers.md", path, number)
		}
	}
}
