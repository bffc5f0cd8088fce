package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
)

// CheckPurity says where a pure room reads a clock, waits, or reaches for the outside.
// Maps ranged over are another matter: they need types (see CheckMapOrder).
func CheckPurity(t *Tree) []string {
	var found []string
	for _, p := range t.Program() {
		room := Rooms[p.Path]
		if !room.Pure {
			continue
		}
		for _, f := range p.Sources() {
			found = append(found, impureImports(f, room)...)
			ast.Inspect(f.Syntax, func(n ast.Node) bool {
				if why := impurity(f, n); why != "" {
					found = append(found, f.at(n)+": "+why+", in a room that is pure")
				}
				return true
			})
		}
	}
	return found
}

func impureImports(f *File, room Room) []string {
	var found []string
	for _, spec := range f.Syntax.Imports {
		importPath := strings.Trim(spec.Path.Value, `"`)
		switch {
		case !isImpure(importPath),
			importPath == "sync/atomic" && room.Atomics,
			(importPath == "os" || importPath == "syscall") && room.OS != "" && room.OS == path.Base(f.Name):
			continue
		}
		found = append(found, fmt.Sprintf("%s: imports %s, in a room that is pure", f.at(spec), importPath))
	}
	return found
}

func isImpure(importPath string) bool {
	if slices.Contains(pureAfterAll, importPath) {
		return false
	}
	return slices.ContainsFunc(impure, func(prefix string) bool { return within(importPath, prefix) })
}

// impurity says what a single node does that a pure room must not, or nothing.
func impurity(f *File, n ast.Node) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "starts a goroutine"
	case *ast.ChanType:
		return "has a channel"
	case *ast.SelectStmt:
		return "selects among channels"
	case *ast.SendStmt:
		return "sends on a channel"
	case *ast.UnaryExpr:
		if n.Op == token.ARROW {
			return "receives from a channel"
		}
	case *ast.SelectorExpr:
		if f.packageOf(n) == "time" && slices.Contains(clockFunctions, n.Sel.Name) {
			return "uses time." + n.Sel.Name
		}
	case *ast.ImportSpec:
		if n.Name != nil && n.Name.Name == "." {
			return "imports names without their package"
		}
	case *ast.CallExpr:
		if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "print" || id.Name == "println") {
			return "prints"
		}
	}
	return ""
}
