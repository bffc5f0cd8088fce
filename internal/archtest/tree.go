package archtest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Module is the path under which our own packages are imported.
const Module = "timeball"

// File is one Go file of the tree, parsed with its comments.
type File struct {
	Name   string // slash-separated, from the root of the module
	Test   bool
	Lines  int
	Syntax *ast.File
	fset   *token.FileSet
}

// Package is what one directory holds; files for every system are in it.
type Package struct {
	Path  string // slash-separated, from the root of the module; "." is the root itself
	Files []*File
}

// Tree is every package of the module, in the order of their paths.
type Tree struct {
	Root     string
	Packages []*Package
	fset     *token.FileSet
}

// Load parses every Go file below root, leaving out testdata and hidden directories.
func Load(root string) (*Tree, error) {
	t := &Tree{Root: root, fset: token.NewFileSet()}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !entry.IsDir() {
			return nil
		}
		base := entry.Name()
		if name != root && (base == "testdata" || base == "bin" || strings.HasPrefix(base, ".")) {
			return fs.SkipDir
		}
		return t.loadDir(name)
	})
	return t, err
}

func (t *Tree) loadDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(t.Root, dir)
	if err != nil {
		return err
	}
	p := &Package{Path: filepath.ToSlash(rel)}
	for _, entry := range entries {
		if entry.IsDir() || !strings.HasSuffix(entry.Name(), ".go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		if err := p.add(t.fset, path.Join(p.Path, entry.Name()), text); err != nil {
			return err
		}
	}
	if len(p.Files) > 0 {
		t.Packages = append(t.Packages, p)
	}
	return nil
}

func (p *Package) add(fset *token.FileSet, name string, text []byte) error {
	syntax, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	p.Files = append(p.Files, &File{
		Name:   name,
		Test:   strings.HasSuffix(name, "_test.go"),
		Lines:  bytes.Count(text, []byte("\n")),
		Syntax: syntax,
		fset:   fset,
	})
	return nil
}

// Program is the packages that end up in the binary: those below internal/ and cmd/.
func (t *Tree) Program() []*Package {
	var out []*Package
	for _, p := range t.Packages {
		if strings.HasPrefix(p.Path, "internal/") || strings.HasPrefix(p.Path, "cmd/") {
			out = append(out, p)
		}
	}
	return out
}

// Sources is the files of a package that are no tests.
func (p *Package) Sources() []*File {
	return slices.DeleteFunc(slices.Clone(p.Files), func(f *File) bool { return f.Test })
}

// Imports is the import paths of a file, with the name each has in it ("" for the
// default, "." and "_" as they stand).
func (f *File) Imports() map[string]string {
	names := make(map[string]string, len(f.Syntax.Imports))
	for _, spec := range f.Syntax.Imports {
		name := ""
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[strings.Trim(spec.Path.Value, `"`)] = name
	}
	return names
}

// importedAs gives the package that an identifier of a file stands for, "" for none.
func (f *File) importedAs(name string) string {
	for importPath, local := range f.Imports() {
		if local == name || local == "" && path.Base(importPath) == name {
			return importPath
		}
	}
	return ""
}

// at is "FILE:LINE" of a node, for messages.
func (f *File) at(n ast.Node) string {
	return f.fset.Position(n.Pos()).String()
}
