// Command fuzz finds every FuzzXxx of the packages named and runs each for a while:
//
//	fuzz -total 60s ./...     the time is shared out among them, at least a second each
//	fuzz -each 10m ./...      each has that time
//
// It prints a line a target and exits 1 when one of them fails.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// shortest is the least a target is given: below it the seeds alone take the time.
const shortest = time.Second

type target struct{ pkg, name string }

func main() {
	total := flag.Duration("total", time.Minute, "time shared out among all targets")
	each := flag.Duration("each", 0, "time for each target; goes before -total")
	flag.Parse()
	patterns := flag.Args()
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	if err := fuzzAll(patterns, *total, *each); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

func fuzzAll(patterns []string, total, each time.Duration) error {
	targets, err := discover(patterns)
	if err != nil {
		return err
	}
	if each == 0 {
		each = share(total, len(targets))
	}
	fmt.Printf("fuzz: %d targets, %v each\n", len(targets), each)
	var failed []string
	for _, t := range targets {
		began := time.Now()
		err := run(t, each)
		word := "ok"
		if err != nil {
			word = "FAIL"
			failed = append(failed, t.pkg+"."+t.name)
		}
		fmt.Printf("%-4s %-40s %-32s %6.1f s\n", word, t.pkg, t.name, time.Since(began).Seconds())
		if err != nil {
			fmt.Println(err)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d targets failed: %s", len(failed), len(targets), strings.Join(failed, " "))
	}
	return nil
}

// share gives each of n targets an equal part of total, rounded to a tenth of a
// second and never below shortest.
func share(total time.Duration, n int) time.Duration {
	if n == 0 {
		return shortest
	}
	return max((total / time.Duration(n)).Truncate(100*time.Millisecond), shortest)
}

// discover lists the fuzz targets of the packages that match the patterns. Only test
// binaries of packages whose source declares one are built.
func discover(patterns []string) ([]target, error) {
	packages, err := candidates(patterns)
	if err != nil || len(packages) == 0 {
		return nil, err
	}
	out, err := output("go", append([]string{"test", "-list", "^Fuzz"}, packages...)...)
	if err != nil {
		return nil, err
	}
	return parseList(out), nil
}

var declares = regexp.MustCompile(`(?m)^func Fuzz\w*\(\w+ \*testing\.F\)`)

func candidates(patterns []string) ([]string, error) {
	const format = `{{$dir := .Dir}}{{$path := .ImportPath}}{{range .TestGoFiles}}{{$path}} {{$dir}}/{{.}}
{{end}}{{range .XTestGoFiles}}{{$path}} {{$dir}}/{{.}}
{{end}}`
	out, err := output("go", append([]string{"list", "-f", format}, patterns...)...)
	if err != nil {
		return nil, err
	}
	var packages []string
	for line := range strings.Lines(out) {
		path, file, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || len(packages) > 0 && packages[len(packages)-1] == path {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if declares.Match(text) {
			packages = append(packages, path)
		}
	}
	return packages, nil
}

// parseList reads what `go test -list` prints: the names of a package, a line each,
// then a line "ok PACKAGE TIME" that says whose they were.
func parseList(out string) []target {
	var targets []target
	var names []string
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 1 && strings.HasPrefix(fields[0], "Fuzz"):
			names = append(names, fields[0])
		case len(fields) >= 2 && fields[0] == "ok":
			for _, name := range names {
				targets = append(targets, target{pkg: fields[1], name: name})
			}
			names = nil
		}
	}
	return targets
}

// run fuzzes one target. The go command at times reports its own deadline as a
// failure of the target; without an input to show for it, that is none.
func run(t target, d time.Duration) error {
	// Left alone, the go command takes up to a minute beyond the time to make an input smaller.
	out, err := output("go", "test", "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", d.String(),
		"-fuzzminimizetime", min(d, 10*time.Second).String(), t.pkg)
	if err == nil || endedByDeadline(out) {
		return nil
	}
	return fmt.Errorf("%w\n%s", err, out)
}

func endedByDeadline(out string) bool {
	return strings.Contains(out, "context deadline exceeded") && !strings.Contains(out, "Failing input") &&
		!strings.Contains(out, "panic")
}

func output(name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s %s: %w: %s", name, args[0], err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), err
}
