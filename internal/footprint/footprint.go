// Package footprint makes the process as small as it can be for the years after its start.
package footprint

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// garbagePercent is how much garbage is let lie, of what is in use. Nearly all of that is
// the tables of clients, without pointers: looking through the rest takes a millisecond,
// and the daemon makes a megabyte of garbage in minutes.
const garbagePercent = 25

// Settle makes the process as small as it can be for the years after its start. Whoever
// set GOGC knows better.
func Settle() error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	debug.FreeOSMemory()
	return dropStartPages()
}

// Trim gives back what work of a moment has left behind. It takes milliseconds.
func Trim() { debug.FreeOSMemory() }

// dropStartPages gives back the pages of the executable that only the start has
// touched: they are clean, and what is used again comes back from the page cache. A
// daemon runs for years on a tenth of its binary.
func dropStartPages() error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		line := lines.Text()
		var from, to uintptr
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err != nil || rights[1] == 'w' || !strings.HasSuffix(line, executable) {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED); errno != 0 {
			return errno
		}
	}
	return nil
}
