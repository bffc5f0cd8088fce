package archtest

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
)

// CheckRooms says which packages of the program have no place in the plan.
func CheckRooms(t *Tree) []string {
	var found []string
	for _, p := range t.Program() {
		if _, ok := Rooms[p.Path]; !ok {
			found = append(found, fmt.Sprintf("%s: not in the plan of the house; give it a room (internal/archtest/rooms.go)", p.Path))
		}
	}
	return found
}

// CheckLayers says which imports go up, or sideways where the plan has no door.
func CheckLayers(t *Tree) []string {
	var found []string
	for _, p := range t.Program() {
		room, ok := Rooms[p.Path]
		if !ok {
			continue
		}
		for _, f := range p.Sources() {
			for _, spec := range f.Syntax.Imports {
				if why := refuse(p.Path, room, strings.Trim(spec.Path.Value, `"`)); why != "" {
					found = append(found, f.at(spec)+": "+why)
				}
			}
		}
	}
	return found
}

// refuse says why a room may not import a path, or nothing.
func refuse(from string, room Room, importPath string) string {
	if ours, ok := strings.CutPrefix(importPath, Module+"/"); ok {
		return refuseOurs(from, room, ours)
	}
	first, _, _ := strings.Cut(importPath, "/")
	if !strings.Contains(first, ".") {
		return "" // the standard library: see CheckPurity
	}
	for prefix, rooms := range OutsideModules {
		if within(importPath, prefix) {
			if slices.Contains(rooms, path.Base(from)) {
				return ""
			}
			return fmt.Sprintf("%s imports %s, which only %s may", from, importPath, strings.Join(rooms, ", "))
		}
	}
	return fmt.Sprintf("%s imports %s, a module that the table of outside modules does not have", from, importPath)
}

func refuseOurs(from string, room Room, ours string) string {
	to, ok := Rooms[ours]
	switch {
	case !ok:
		return fmt.Sprintf("%s imports %s, which is no room of the program", from, ours)
	case to.Layer < room.Layer:
		return ""
	case to.Layer > room.Layer:
		return fmt.Sprintf("%s (layer %d) imports %s (layer %d): a lower layer never imports a higher one", from, room.Layer, ours, to.Layer)
	case !slices.Contains(room.Beside, path.Base(ours)):
		return fmt.Sprintf("%s imports %s of its own layer, which the plan does not allow", from, ours)
	}
	return ""
}

// CheckGoroutines says which go statements stand in a room that may start none.
func CheckGoroutines(t *Tree) []string {
	var found []string
	for _, p := range t.Program() {
		if Rooms[p.Path].Goroutines != "" {
			continue
		}
		for _, f := range p.Sources() {
			ast.Inspect(f.Syntax, func(n ast.Node) bool {
				if _, ok := n.(*ast.GoStmt); ok {
					found = append(found, f.at(n)+": starts a goroutine; daemon does that")
				}
				return true
			})
		}
	}
	return found
}

// CheckClockCalls says who but the clock could touch the system's clock; tests and
// tools are not excepted.
func CheckClockCalls(t *Tree) []string {
	var found []string
	for _, p := range t.Packages {
		if p.Path == "internal/clock" {
			continue
		}
		for _, f := range p.Files {
			ast.Inspect(f.Syntax, func(n ast.Node) bool {
				selector, ok := n.(*ast.SelectorExpr)
				if !ok || !slices.Contains(clockCalls, selector.Sel.Name) {
					return true
				}
				if pkg := f.packageOf(selector); pkg == "syscall" || within(pkg, "golang.org/x/sys") {
					found = append(found, fmt.Sprintf("%s: %s: only internal/clock touches the system clock", f.at(n), selector.Sel.Name))
				}
				return true
			})
		}
	}
	return found
}

// CheckSizes says which functions and files are longer than house style has them.
func CheckSizes(t *Tree) []string {
	var found []string
	for _, p := range t.Packages {
		for _, f := range p.Sources() {
			if f.Lines > longestFile {
				found = append(found, fmt.Sprintf("%s: %d lines, at most %d", f.Name, f.Lines, longestFile))
			}
			for _, decl := range f.Syntax.Decls {
				fn, ok := decl.(*ast.FuncDecl)
				if !ok {
					continue
				}
				if n := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1; n > longestFunction {
					found = append(found, fmt.Sprintf("%s: %s has %d lines, at most %d", f.at(fn), fn.Name.Name, n, longestFunction))
				}
			}
		}
	}
	return found
}

// packageOf gives the import path of the package that a selector picks from, or "".
func (f *File) packageOf(s *ast.SelectorExpr) string {
	if id, ok := s.X.(*ast.Ident); ok {
		return f.importedAs(id.Name)
	}
	return ""
}

// within says whether an import path is a prefix or lies below it.
func within(importPath, prefix string) bool {
	return importPath == prefix || strings.HasPrefix(importPath, prefix+"/")
}
