// Gen writes what the packages hold beside the program and is made from its code: a manual
// page for every command, one for the configuration, and completions.
//
//	go run ./packaging/gen DIR VERSION MAINTAINER DATE
//
// DATE is that of the version, as RFC 5322 has it.
package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"timeball/internal/cli"
	"timeball/internal/config"
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: gen DIR VERSION MAINTAINER DATE")
		os.Exit(64)
	}
	if err := generate(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func generate(dir, version, maintainer, date string) error {
	root := cli.Root()
	root.DisableAutoGenTag = true // the same code makes the same pages
	for _, step := range []func() error{
		func() error { return commandPages(filepath.Join(dir, "man"), version, root) },
		func() error { return configurationPage(filepath.Join(dir, "man"), version) },
		func() error { return completions(filepath.Join(dir, "completions"), root) },
		func() error {
			entry := fmt.Sprintf("timeball (%s) unstable; urgency=medium\n\n  * What changes for those who run it: CHANGELOG.md.\n\n -- %s  %s\n", version, maintainer, date)
			return compressed(filepath.Join(dir, "changelog.gz"), []byte(entry))
		},
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// commandPages writes timeball.8 and timeball-COMMAND.8.
func commandPages(dir, version string, root *cobra.Command) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	day := time.Unix(0, 0).UTC() // no date in the page: it is of a version
	header := &doc.GenManHeader{Section: "8", Source: "timeball " + version, Manual: "timeball", Date: &day}
	if err := doc.GenManTree(root, header, dir); err != nil {
		return err
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.8"))
	if err != nil {
		return err
	}
	for _, page := range pages {
		if err := compress(page, page+".gz"); err != nil {
			return err
		}
		if err := os.Remove(page); err != nil {
			return err
		}
	}
	return nil
}

// configurationPage writes timeball.yaml.5: every key of the schema, with what
// docs/configuration.md says of it.
func configurationPage(dir, version string) error {
	text, err := os.ReadFile("docs/configuration.md")
	if err != nil {
		return err
	}
	meanings := map[string]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if strings.HasPrefix(line, "| `") && len(cells) >= 5 {
			meanings[strings.Trim(cells[0], "`")] = cells[4]
		}
	}
	var page bytes.Buffer
	fmt.Fprintf(&page, "%% TIMEBALL.YAML 5 \"\" \"timeball %s\" \"timeball\"\n\n# NAME\n\ntimeball.yaml - the configuration of timeball\n\n", version)
	page.WriteString("# SYNOPSIS\n\n/etc/timeball/timeball.yaml\n\n# DESCRIPTION\n\nOne YAML document. It is strict: an unknown or doubled key, a wrong type, a value out of range " +
		"is an error with file, line and column; `timeball check` tells all of them. Every key is optional. `[]` stands for each entry of a list.\n\n# KEYS\n\n")
	for _, key := range config.Schema() {
		fmt.Fprintf(&page, "**%s** (%s; default %s", key.Path, key.Type, key.Default)
		if key.Range != "" {
			fmt.Fprintf(&page, "; %s", key.Range)
		}
		fmt.Fprintf(&page, ")\n:   %s\n\n", meanings[key.Path])
	}
	page.WriteString("# SEE ALSO\n\ntimeball(8), timeball-check(8), timeball-convert(8)\n")
	return compressed(filepath.Join(dir, "timeball.yaml.5.gz"), md2man.Render(page.Bytes()))
}

// completions writes those of the shells that have them.
func completions(dir string, root *cobra.Command) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := root.GenBashCompletionFileV2(filepath.Join(dir, "timeball.bash"), true); err != nil {
		return err
	}
	if err := root.GenZshCompletionFile(filepath.Join(dir, "_timeball")); err != nil {
		return err
	}
	return root.GenFishCompletionFile(filepath.Join(dir, "timeball.fish"), true)
}

func compress(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return compressed(to, text)
}

// compressed writes gzip without name and time, so that the same text makes the same bytes.
func compressed(to string, text []byte) error {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(to, out.Bytes(), 0o644)
}
