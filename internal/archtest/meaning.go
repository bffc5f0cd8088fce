package archtest

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
)

// meanings are the types that say what a configuration means. Only the engine makes them,
// for every driver; written in a driver they would drift from the other driver's.
var meanings = map[string][]string{
	"association": {"Config"},
	"reference":   {"Config"},
	"system":      {"Config"},
	"responder":   {"Policy"},
}

// drivers run the core and do not say what a configuration means.
var drivers = []string{"internal/daemon", "internal/simulate", "internal/lab", "internal/probe", "internal/serve", "internal/cli"}

// CheckMeaning says where a driver makes one of the meanings by itself.
func CheckMeaning(t *Tree) []string {
	var found []string
	for _, p := range t.Program() {
		if !slices.Contains(drivers, p.Path) {
			continue
		}
		for _, f := range p.Sources() {
			ast.Inspect(f.Syntax, func(n ast.Node) bool {
				literal, ok := n.(*ast.CompositeLit)
				if !ok {
					return true
				}
				selector, ok := literal.Type.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				from := path.Base(f.packageOf(selector))
				if slices.Contains(meanings[from], selector.Sel.Name) {
					found = append(found, fmt.Sprintf("%s: makes a %s.%s; what a configuration means is the engine's to say, once for every driver", f.at(n), from, selector.Sel.Name))
				}
				return true
			})
		}
	}
	return found
}

// CheckDoors says which doors of the plan nobody goes through.
func CheckDoors(t *Tree) []string {
	var found []string
	for _, p := range t.Program() {
		for _, name := range Rooms[p.Path].Beside {
			used := slices.ContainsFunc(p.Sources(), func(f *File) bool {
				_, imports := f.Imports()[Module+"/internal/"+name]
				return imports
			})
			if !used {
				found = append(found, fmt.Sprintf("%s may import internal/%s and does not; close the door (rooms.go)", p.Path, name))
			}
		}
	}
	return found
}

// optionTypes are the structs whose fields are there for a caller to set, by the end of
// their names. Those of package config are set from the file.
var optionTypes = []string{"Options", "Config", "Settings", "Setup"}

// CheckOptions says which fields of an options type only tests set: what can't be set in
// the program is no option of it.
func CheckOptions(t *Tree) []string {
	set := map[string]bool{} // names of fields that some literal or assignment of the program sets
	for _, p := range t.Program() {
		for _, f := range p.Sources() {
			ast.Inspect(f.Syntax, func(n ast.Node) bool { return noteSet(n, set) })
		}
	}
	imported := map[string]bool{}
	for _, p := range t.Program() {
		for _, f := range p.Sources() {
			for name := range f.Imports() {
				imported[strings.TrimPrefix(name, Module+"/")] = true
			}
		}
	}
	var found []string
	for _, p := range t.Program() {
		if p.Path == "internal/config" || !imported[p.Path] { // or nothing uses the room yet
			continue
		}
		for _, f := range p.Sources() {
			ast.Inspect(f.Syntax, func(n ast.Node) bool {
				spec, ok := n.(*ast.TypeSpec)
				if !ok || !slices.ContainsFunc(optionTypes, func(end string) bool { return strings.HasSuffix(spec.Name.Name, end) }) {
					return true
				}
				fields, ok := spec.Type.(*ast.StructType)
				if !ok {
					return true
				}
				for _, field := range fields.Fields.List {
					for _, name := range field.Names {
						if name.IsExported() && !set[name.Name] {
							found = append(found, fmt.Sprintf("%s: nothing but tests sets %s.%s", f.at(name), spec.Name.Name, name.Name))
						}
					}
				}
				return true
			})
		}
	}
	return found
}

// noteSet notes the names of fields that a node sets.
func noteSet(n ast.Node, set map[string]bool) bool {
	switch n := n.(type) {
	case *ast.CompositeLit:
		for _, element := range n.Elts {
			if pair, ok := element.(*ast.KeyValueExpr); ok {
				if key, ok := pair.Key.(*ast.Ident); ok {
					set[key.Name] = true
				}
			}
		}
	case *ast.AssignStmt:
		for _, left := range n.Lhs {
			if selector, ok := left.(*ast.SelectorExpr); ok {
				set[selector.Sel.Name] = true
			}
		}
	case *ast.UnaryExpr:
		if selector, ok := n.X.(*ast.SelectorExpr); ok { // its address goes to who sets it
			set[selector.Sel.Name] = true
		}
	}
	return true
}
