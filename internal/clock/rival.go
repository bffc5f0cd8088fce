package clock

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// setters are programs that set clocks, by the name of their process (15 bytes, as the
// kernel has it), and what else sets them besides daemons of NTP: guests' agents.
var setters = []string{"chronyd", "ntpd", "ntpd-rs", "ntp-daemon", "systemd-timesyn", "openntpd", "phc2sys", "ptp4l", "timemaster",
	"vmtoolsd", "VBoxService", "qemu-ga", "hv_timesync", "hypervkvpd", "waagent", "xe-daemon", "adjtimed", "rdate", "ntpdate", "sntp", "htpdate", "timed"}

// units are services that set clocks, by the name that systemd gives their control group.
// Our unit hides others' processes from us (ProtectProc=), their groups it does not.
var units = []string{"chrony", "chronyd", "ntp", "ntpd", "ntpsec", "ntpd-rs", "openntpd", "systemd-timesyncd", "phc2sys", "ptp4l", "timemaster",
	"vmtoolsd", "open-vm-tools", "vboxadd-service", "virtualbox-guest-utils", "qemu-guest-agent", "walinuxagent", "htpdate"}

const capSysTime = 25 // CAP_SYS_TIME

// Rivals names what else on this machine is likely to set the clock, the likeliest first:
// processes known for it, those that hold CAP_SYS_TIME and little else, and services known
// for it. root is "/". What cannot be read is not named; none found is nil.
func Rivals(root string) []string {
	type rival struct {
		rank int
		text string
	}
	var found []rival
	named := map[string]bool{}
	dirs, _ := filepath.Glob(filepath.Join(root, "proc", "[0-9]*"))
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		name, caps := processOf(dir)
		unit := unitOf(dir)
		rank := 0
		switch {
		case name == "" || strings.HasPrefix(name, "timeball"):
			continue
		case slices.Contains(setters, name):
		case caps&(1<<capSysTime) != 0 && narrow(caps):
			rank = 1
		default:
			continue
		}
		text := fmt.Sprintf("%s (process %d)", name, pid)
		if unit != "" {
			text = fmt.Sprintf("%s (process %d, %s)", name, pid, unit)
			named[unit] = true
		}
		found = append(found, rival{rank, text})
	}
	for _, u := range units {
		unit := u + ".service"
		if text, err := os.ReadFile(filepath.Join(root, "sys/fs/cgroup/system.slice", unit, "cgroup.events")); err == nil &&
			strings.Contains(string(text), "populated 1") && !named[unit] {
			found = append(found, rival{2, unit})
		}
	}
	slices.SortStableFunc(found, func(a, b rival) int { return cmp.Compare(a.rank, b.rank) })
	var texts []string
	for _, r := range found[:min(len(found), 3)] {
		texts = append(texts, r.text)
	}
	return texts
}

// processOf reads the name and the effective capabilities of a process.
func processOf(dir string) (name string, caps uint64) {
	text, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return "", 0
	}
	for _, line := range strings.Split(string(text), "\n") {
		if v, ok := strings.CutPrefix(line, "Name:"); ok {
			name = strings.TrimSpace(v)
		}
		if v, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, _ = strconv.ParseUint(strings.TrimSpace(v), 16, 64)
		}
	}
	return name, caps
}

// narrow reports whether capabilities were given one by one, so that each is wanted.
func narrow(caps uint64) bool {
	n := 0
	for ; caps != 0; caps &= caps - 1 {
		n++
	}
	return n <= 8
}

// unitOf is the service that a process belongs to, "" for none.
func unitOf(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup"))
	if err != nil {
		return ""
	}
	for _, part := range strings.FieldsFunc(string(text), func(r rune) bool { return r == '/' || r == '\n' }) {
		if strings.HasSuffix(part, ".service") {
			return part
		}
	}
	return ""
}
