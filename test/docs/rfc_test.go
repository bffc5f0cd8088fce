package docs

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var testName = regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")

func TestRFCNamesTestsThatThereAre(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/RFC.md"))
	if err != nil {
		t.Fatal(err)
	}
	names, cited := map[string]bool{}, map[string]bool{}
	eachDeclaration(t, true, []string{"internal", "test"}, func(_ string, d ast.Decl) {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
			names[f.Name.Name] = true
		}
	})
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
