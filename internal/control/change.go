package control

import "fmt"

// The commands that change the running daemon. Root may, the daemon's own user, and the
// members of the socket's group; whatever the mode of the socket lets others see.
const (
	CommandReload  = "reload"  // args plan: "true" only says what would be done
	CommandOffline = "offline" // source: one, or all that are asked for the time
	CommandOnline  = "online"
	CommandBurst   = "burst"
	CommandStep    = "step"
	CommandAccept  = "accept-correction" // args size: of the correction refused, as time.Duration prints it
)

var changing = map[string]bool{
	CommandReload: true, CommandOffline: true, CommandOnline: true, CommandBurst: true, CommandStep: true,
	CommandAccept: true,
}

// Changes reports whether a command changes the daemon, so that not everybody may ask it.
func Changes(command string) bool { return changing[command] }

// Asker is who sent a request, as the kernel tells it (unix(7), SO_PEERCRED). The zero
// value is nobody known.
type Asker struct {
	Known    bool
	UID, GID uint32
	PID      int32
	Groups   []uint32 // supplementary ones; nil where the kernel does not tell
}

// String names the asker for a log.
func (a Asker) String() string {
	if !a.Known {
		return "unknown"
	}
	return fmt.Sprintf("uid %d, pid %d", a.UID, a.PID)
}

// mayChange reports whether an asker may change a daemon of this user whose socket
// belongs to this group.
func (a Asker) mayChange(user, group uint32) bool {
	if !a.Known {
		return false
	}
	if a.UID == 0 || a.UID == user || a.GID == group {
		return true
	}
	for _, g := range a.Groups {
		if g == group {
			return true
		}
	}
	return false
}

// ReloadPlan is what a reload does, or did: the answer to CommandReload.
type ReloadPlan struct {
	File     string         `json:"file"`
	Applied  bool           `json:"applied"` // false: only planned
	Same     bool           `json:"same"`    // the file says what is in force already
	Sources  []SourceChange `json:"sources"`
	Sections []string       `json:"sections"` // taken over by the running daemon
	Restart  []NeedsRestart `json:"restart"`  // what waits for the next start
	Warnings []string       `json:"warnings"`
}

// The actions of a SourceChange.
const (
	ActionKeep    = "keep"
	ActionStart   = "start"
	ActionStop    = "stop"
	ActionRestart = "restart"
)

// SourceChange is what becomes of one source.
type SourceChange struct {
	Source string `json:"source"`
	Action string `json:"action"` // keep, start, stop, restart
	Why    string `json:"why"`
}

// NeedsRestart is a section that the running daemon cannot take over, and why.
type NeedsRestart struct {
	Section string `json:"section"`
	Why     string `json:"why"`
}

// Changed is the answer to offline, online and burst: the sources that it was done to.
type Changed struct {
	Command string   `json:"command"`
	Sources []string `json:"sources"` // name, with its address
}

// Stepped is the answer to step and accept-correction.
type Stepped struct {
	Offset   float64 `json:"offset"`             // s, what the clock was set by; positive: forward
	Observed bool    `json:"observed,omitempty"` // the machine's clock was left alone: only the time worked out was set
}
