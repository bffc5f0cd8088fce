package footprint

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

// residentFile is what is resident of mapped files, in kB.
func residentFile(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skipf("no /proc here: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, "RssFile:"); found {
			kilobytes, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kilobytes
		}
	}
	t.Skip("this kernel does not tell RssFile")
	return 0
}

func TestASettledDaemonLetsLittleGarbageLie(t *testing.T) {
	for _, test := range []struct {
		name, gogc   string
		before, want int
	}{
		{"by default a quarter", "", 100, garbagePercent},
		{"whoever set GOGC knows better", "300", 300, 300},
	} {
		t.Setenv("GOGC", test.gogc)
		old := debug.SetGCPercent(test.before)
		if err := Settle(); err != nil {
			t.Fatal(err)
		}
		if got := debug.SetGCPercent(old); got != test.want {
			t.Errorf("%s: got %d %%, want %d", test.name, got, test.want)
		}
	}
}

func TestThePagesOfTheStartAreGivenBack(t *testing.T) {
	before := residentFile(t)
	if err := dropStartPages(); err != nil {
		t.Fatal(err)
	}
	if after := residentFile(t); after >= before {
		t.Errorf("got %d kB of files resident, want less than the %d before", after, before)
	}
}
