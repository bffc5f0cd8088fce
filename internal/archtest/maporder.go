package archtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
)

// orderMark is the comment, on the line or on the one before, that says why the order
// of a map does not show.
const orderMark = "//order:"

// CheckMapOrder says where a pure room ranges over a map without a word why its order
// does not show, and where it lists a map's keys or values without sorting them.
func CheckMapOrder(t *Tree, built map[string]Built) []string {
	var found []string
	imports := importer.ForCompiler(t.fset, "gc", func(path string) (io.ReadCloser, error) {
		file := built[path].Export
		if file == "" {
			return nil, errors.New("not built: " + path)
		}
		return os.Open(file)
	})
	for _, p := range t.Program() {
		if Rooms[p.Path].Pure {
			found = append(found, mapOrder(t.fset, p, built[Module+"/"+p.Path].GoFiles, imports)...)
		}
	}
	return found
}

// mapOrder checks the files of one package that are named, the ones for this system.
func mapOrder(fset *token.FileSet, p *Package, names []string, imports types.Importer) []string {
	var files []*File
	var syntax []*ast.File
	for _, f := range p.Sources() {
		if slices.Contains(names, path.Base(f.Name)) {
			files, syntax = append(files, f), append(syntax, f.Syntax)
		}
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	// What does not compile is the compiler's to report; what is known is judged.
	conf := types.Config{Importer: imports, Error: func(error) {}}
	_, _ = conf.Check(p.Path, fset, syntax, info)
	var found []string
	for _, f := range files {
		found = append(found, f.mapRanges(info)...)
	}
	return found
}

func (f *File) mapRanges(info *types.Info) []string {
	excused := f.excusedLines()
	sorted := map[ast.Node]bool{}
	var found []string
	ast.Inspect(f.Syntax, func(n ast.Node) bool {
		why := ""
		switch n := n.(type) {
		case *ast.CallExpr:
			f.markSorted(n, sorted)
			if name := f.mapList(n); name != "" && !sorted[n] {
				why = "lists a map by maps." + name + " without sorting"
			}
		case *ast.RangeStmt:
			if isMap(info.TypeOf(n.X)) {
				why = "ranges over a map"
			}
		}
		if why != "" && !excused[f.fset.Position(n.Pos()).Line] {
			found = append(found, fmt.Sprintf("%s: %s; sort, or say `%s` and why its order does not show", f.at(n), why, orderMark))
		}
		return true
	})
	return found
}

// markSorted notes the arguments of slices.Sorted and its like: their order is mended.
func (f *File) markSorted(call *ast.CallExpr, sorted map[ast.Node]bool) {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || f.packageOf(selector) != "slices" || !strings.HasPrefix(selector.Sel.Name, "Sorted") {
		return
	}
	for _, arg := range call.Args {
		sorted[arg] = true
	}
}

// mapList gives the name of the function of package maps that a call is of, where it
// lists a map.
func (f *File) mapList(call *ast.CallExpr) string {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || f.packageOf(selector) != "maps" || !slices.Contains([]string{"All", "Keys", "Values"}, selector.Sel.Name) {
		return ""
	}
	return selector.Sel.Name
}

// excusedLines are those with an order mark and a reason, and the ones after them.
func (f *File) excusedLines() map[int]bool {
	lines := map[int]bool{}
	for _, group := range f.Syntax.Comments {
		for _, comment := range group.List {
			reason, ok := strings.CutPrefix(comment.Text, orderMark)
			if ok && strings.TrimSpace(reason) != "" {
				line := f.fset.Position(comment.Pos()).Line
				lines[line], lines[line+1] = true, true
			}
		}
	}
	return lines
}

func isMap(t types.Type) bool {
	if t == nil {
		return false
	}
	_, ok := t.Underlying().(*types.Map)
	return ok
}

// Built is what the go command tells of a package.
type Built struct {
	ImportPath string
	Export     string   // the file with its compiled declarations
	GoFiles    []string // its files for this system, tests left out
}

// Build compiles the packages and what they need, by `go list -export`, and tells
// where the declarations of each are.
func Build(root string, packages []string) (map[string]Built, error) {
	args := append([]string{"list", "-e", "-export", "-deps", "-json=ImportPath,Export,GoFiles"}, packages...)
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	built := map[string]Built{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var b Built
		if err := decoder.Decode(&b); errors.Is(err, io.EOF) {
			return built, nil
		} else if err != nil {
			return nil, fmt.Errorf("what go list prints: %w", err)
		}
		built[b.ImportPath] = b
	}
}
