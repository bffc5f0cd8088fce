package archtest

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// textKinds are the endings of the files whose text is read by people.
var textKinds = []string{"", ".go", ".md", ".yaml", ".yml", ".service", ".sh", ".mod", ".txt", ".conf"}

// CheckText says which files of the tree hold words that none should.
func CheckText(root string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && skipText(entry.Name()):
			return fs.SkipDir
		case !entry.Type().IsRegular() || !slices.Contains(textKinds, filepath.Ext(name)):
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		short := filepath.ToSlash(strings.TrimPrefix(name, root+string(filepath.Separator)))
		found = append(found, unwantedWords(short, text)...)
		found = append(found, dialectWords(short, text)...)
		return nil
	})
	return found, err
}

func skipText(dir string) bool {
	return dir == ".git" || dir == "bin" || dir == "testdata"
}

// dialectWords finds the private words of the glossary, each with the field's own.
func dialectWords(name string, text []byte) (found []string) {
	if name == "CHANGELOG.md" || strings.HasPrefix(name, "internal/archtest/") {
		return nil
	}
	for i, pattern := range dialectPatterns {
		for _, at := range pattern.FindAllIndex(text, -1) {
			line := 1 + bytes.Count(text[:at[0]], []byte("\n"))
			found = append(found, fmt.Sprintf("%s:%d: says %q; the field says %q", name, line, dialect[i].not, dialect[i].but))
		}
	}
	return found
}

func unwantedWords(name string, text []byte) []string {
	var found []string
	for i, line := range bytes.Split(text, []byte("\n")) {
		for _, word := range unwanted {
			if bytes.Contains(line, []byte(word)) {
				found = append(found, fmt.Sprintf("%s:%d: says %q", name, i+1, word))
			}
		}
	}
	return found
}
