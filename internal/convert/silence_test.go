package convert

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// without is a machine's file system in which one file has other bytes.
type without struct {
	Disk
	path string
	data []byte
}

func (w without) Read(path string) ([]byte, error) {
	if path == w.path {
		return w.data, nil
	}
	return w.Disk.Read(path)
}

// lineNumbers are what changes by the absence of a line alone.
var lineNumbers = regexp.MustCompile(`line [0-9]+|:[0-9]+:`)

// Each word of each line becomes something, or is told of: what comes out without it is
// not the same.
func TestNothingIsLostInSilence(t *testing.T) {
	folders, err := filepath.Glob("testdata/*/etc")
	if err != nil {
		t.Fatal(err)
	}
	for _, etc := range folders {
		root := filepath.Dir(etc)
		t.Run(filepath.Base(root), func(t *testing.T) {
			t.Parallel()
			main := mainOf(t, root)
			whole := rendered(t, main, Disk{Root: root})
			for _, file := range filesBelow(t, root) {
				eachWordLess(t, root, file, func(path string, nr int, word string, data []byte) {
					at := fmt.Sprintf("%s%s:%d: %s", filepath.Base(root), path, nr, word)
					if got := rendered(t, main, without{Disk{Root: root}, path, data}); got == whole && !needless.MatchString(at) {
						t.Errorf("%s:%d: nothing tells of %q", path, nr, word)
					}
				})
			}
		})
	}
}

func mainOf(t *testing.T, root string) string {
	t.Helper()
	for _, main := range mains {
		if _, err := os.Stat(filepath.Join(root, main)); err == nil {
			return "/" + main
		}
	}
	t.Fatalf("no configuration in %s", root)
	return ""
}

// rendered is all that a conversion says, without numbers of lines.
func rendered(t *testing.T, main string, files Files) string {
	t.Helper()
	r, err := Convert(main, Options{Files: files, KeyFile: "/keys.yaml"})
	if err != nil {
		return err.Error()
	}
	var text strings.Builder
	text.Write(r.YAML)
	text.Write(r.Keys)
	for _, n := range r.Notes {
		text.WriteString(n.String() + "\n")
	}
	return lineNumbers.ReplaceAllString(text.String(), "")
}

func filesBelow(t *testing.T, root string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && filepath.Ext(path) != ".txt" {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// needless are the words that their daemon does nothing for where they stand, by the end of
// their folder's name and place; the reason beside it.
var needless = regexp.MustCompile(strings.Join([]string{
	`^\S+:\s(kod|nomodify|notrap)$`, // nothing changes from afar, and a limit tells its clients
	`^(ntp.org-full.*:15|ntp.org-server.*:20|ntpsec-full.*:15|ntpsec-stock.*:9):\snopeer$`, // noquery leaves less
	`^ntpsec-restrict.*:(8|10):\snopeer$`,                                                  // unrestrict takes it back
	`^ntp.org-server.*:20:\s-4$`,                                                           // the next line speaks of the other family
	`^ntp.org-full.*:14:\s224.0.1.1$`,                                                      // the group that it has anyway
	`^ntpsec.*:\snts$`,                                                                     // said by ca
	`^chrony-(server|clocks).*:\sall$`,                                                     // nothing was said of parts of it
	`^chrony-auth.*:12:\snoselect$`,                                                        // authselectmode says it too
	`^chrony-client/usr/share/chrony/conf.d/10-a.conf`,                                     // of two files of one name the first counts
	`^timesyncd-empty`,                                                                     // an empty list is what is there anyway
	`^timesyncd-full.*:3:`,                                                                 // taken back by the next line
	`^timesyncd-site.*:4:`,                                                                 // an empty list is what is there anyway
	`^timesyncd-odd.*:2:`,                                                                  // ignored with and without it
	`^timesyncd-dropins/etc/systemd/timesyncd.conf:(7|9):`,                                 // a drop-in says otherwise
	`^timesyncd-dropins/usr/lib/systemd/timesyncd.conf.d/20-site.conf`,                     // /etc has one of this name
	`^timesyncd-stock.*\[Time\]$`,                                                          // nothing follows it
}, "|"))

// eachWordLess calls back with a file from which a word is gone, for each of its words.
func eachWordLess(t *testing.T, root, file string, try func(path string, nr int, word string, data []byte)) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(file, filepath.Clean(root))
	rows := bytes.SplitAfter(data, []byte("\n"))
	for i, row := range rows {
		text := string(row)
		if trimmed := strings.TrimSpace(text); trimmed == "" || strings.ContainsAny(trimmed[:1], "#!;%") {
			continue
		}
		if j := strings.Index(text, " #"); j >= 0 {
			text = text[:j]
		}
		for _, at := range wordPlaces.FindAllStringIndex(text, -1) {
			word := text[at[0]:at[1]]
			less := bytes.Join(rows[:i], nil)
			less = append(bytes.Clone(less), row[:at[0]]...)
			less = append(append(less, row[at[1]:]...), bytes.Join(rows[i+1:], nil)...)
			try(path, i+1, word, less)
		}
	}
}

var wordPlaces = regexp.MustCompile(`\S+`)

// What is beyond the limit of lines is told, once.
func TestLinesBeyondTheLimitAreTold(t *testing.T) {
	for format, text := range map[Format]string{Chrony: "rtcsync\n", NTPsec: "leapsmearinterval 0\n"} {
		r, err := Convert("/conf", Options{Format: format, Files: memory{"/conf", []byte(strings.Repeat(text, maxLines+3))}, KeyFile: "/keys.yaml"})
		if err != nil {
			t.Fatal(err)
		}
		told := 0
		for _, n := range r.Notes {
			if strings.Contains(n.Reason, "nothing is read") && n.Kind == NoteRefused && n.Line == maxLines+1 {
				told++
			}
		}
		if told != 1 {
			t.Errorf("%s: told %d times, want once, at line %d", format, told, maxLines+1)
		}
	}
}
