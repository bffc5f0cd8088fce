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
		found = append(found, unwantedWords(filepath.ToSlash(strings.TrimPrefix(name, root+string(filepath.Separator))), text)...)
		return nil
	})
	return found, err
}

func skipText(dir string) bool {
	return dir == ".git" || dir == "bin" || dir == "testdata"
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
