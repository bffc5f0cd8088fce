package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// tests collects the names of all tests.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, dir := range []string{"internal", "test"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
					names[f.Name.Name] = true
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}

var testName = regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")

func TestRFCNamesTestsThatThereAre(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/RFC.md"))
	if err != nil {
		t.Fatal(err)
	}
	names, cited := tests(t), map[string]bool{}
	for _, match := range testName.FindAllStringSubmatch(string(text), -1) {
		cited[match[1]] = true
		if !names[match[1]] {
			t.Errorf("RFC.md names %s, which is no test", match[1])
		}
	}
	for name := range names {
		if strings.HasPrefix(name, "TestRFC") && !cited[name] && name != "TestRFCNamesTestsThatThereAre" {
			t.Errorf("RFC.md does not name %s; add the rule that it holds", name)
		}
	}
}
