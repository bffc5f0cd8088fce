package peers

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// CheckMetrics has promtool judge a page of metrics: not nil when it finds anything to
// say, also when that is only advice.
func CheckMetrics(t testing.TB, page string) error {
	t.Helper()
	promtool := Unpack(t, "prometheus", "usr/bin/promtool")
	cmd := exec.Command(promtool.Path, "check", "metrics")
	cmd.Env = append(os.Environ(), promtool.Env()...)
	cmd.Stdin = strings.NewReader(page)
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) > 0 {
		return fmt.Errorf("promtool check metrics: %v: %s", err, out)
	}
	return nil
}
