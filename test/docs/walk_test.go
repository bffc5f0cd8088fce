// Package docs holds the documents to the code.
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

const root = "../.."

// eachDeclaration visits what is declared at the top of the Go files below dirs: of
// the tests, or of everything else.
func eachDeclaration(t *testing.T, tests bool, dirs []string, visit func(pkg string, d ast.Decl)) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") != tests {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for _, d := range file.Decls {
				visit(file.Name.Name, d)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func declare(names map[string]bool, pkg string, d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		name := pkg + "."
		if d.Recv != nil {
			name += receiver(d.Recv.List[0].Type) + "."
		}
		names[name+d.Name.Name] = true
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			if s, ok := spec.(*ast.TypeSpec); ok {
				names[pkg+"."+s.Name.Name] = true
			}
		}
	}
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return "?"
}

// codeName is a name of the program in a document: `package.Function` or
// `package.Type.Method`.
var codeName = regexp.MustCompile("`([a-z][a-z0-9]*\\.[A-Za-z]\\w*(?:\\.[A-Za-z]\\w*)?)`")

func TestWalkNamesWhatThereIs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/WALK.md"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	eachDeclaration(t, false, []string{"internal", "cmd"}, func(pkg string, d ast.Decl) { declare(names, pkg, d) })
	found := codeName.FindAllStringSubmatch(string(text), -1)
	if len(found) < 50 {
		t.Fatalf("got %d names, want 50 or more: is the pattern still right?", len(found))
	}
	for _, match := range found {
		if !names[match[1]] {
			t.Errorf("WALK.md names %s, which is not in the program", match[1])
		}
	}
}
