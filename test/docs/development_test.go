package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"timeball/internal/archtest"
)

// The table of layers names every room that is built, in its layer, and no other.
func TestDevelopmentNamesEveryRoom(t *testing.T) {
	text := read(t, "docs/development.md")
	named := regexp.MustCompile("`([a-z/]+)`")
	for layer := 0; layer <= 4; layer++ {
		row := regexp.MustCompile(fmt.Sprintf(`(?m)^\| L%d \| ([^|]*) \|`, layer)).FindStringSubmatch(text)
		if row == nil {
			t.Fatalf("development.md has no row for L%d", layer)
		}
		var told []string
		for _, match := range named.FindAllStringSubmatch(row[1], -1) {
			told = append(told, match[1])
		}
		for path, room := range archtest.Rooms {
			name := strings.TrimPrefix(path, "internal/")
			if _, err := os.Stat(filepath.Join(root, path)); err != nil || name == "archtest" || room.Layer != layer {
				continue // planned only, or no room of the program, or of another layer
			}
			if !slices.Contains(told, name) {
				t.Errorf("L%d: %s is not in the table", layer, name)
			}
		}
		for _, name := range told {
			room, ok := archtest.Rooms["internal/"+name]
			if !ok {
				room, ok = archtest.Rooms[name]
			}
			if !ok || room.Layer != layer {
				t.Errorf("L%d: %s is no room of this layer", layer, name)
			}
		}
	}
}

// Targets of make that the documents name are in the Makefile.
func TestDocumentsNameTargetsThatThereAre(t *testing.T) {
	makefile := read(t, "Makefile")
	target := regexp.MustCompile(`\bmake ([a-z0-9]+)\b`)
	for _, document := range documents(t) {
		for _, part := range regexp.MustCompile("(?ms)^```sh\n.*?^```|`[^`\n]+`").FindAllString(read(t, document), -1) {
			for _, match := range target.FindAllStringSubmatch(part, -1) {
				if !strings.Contains(makefile, "\n"+match[1]+":") && !regexp.MustCompile(`(?m)^# .*make `+match[1]).MatchString(part) {
					t.Errorf("%s names make %s, which is no target", document, match[1])
				}
			}
		}
	}
}
