package daemon

import (
	"fmt"
	"math"
	"strings"
	"time"

	"timeball/internal/model"
)

// sentence is what the log says of an event, with sign and unit: one line that is
// understood alone. source names the one that it is about, "" if it is about none.
func sentence(e *model.Event, source string) string {
	who := "source " + source
	switch e.Kind {
	case model.EventMobilized:
		return who + ": association mobilized, mode " + e.Text
	case model.EventDemobilized:
		return who + ": association demobilized: " + e.Text
	case model.EventReachable:
		return who + " is reachable"
	case model.EventUnreachable:
		return who + " is unreachable: " + e.Text
	case model.EventRefused:
		return who + ": " + e.Text
	case model.EventKeys:
		return who + " has given keys for NTS: " + e.Text
	case model.EventKeysFailed:
		return who + " has given no keys for NTS (" + e.Text + "); will go on trying"
	case model.EventKiss:
		return who + " sent the kiss code " + e.Text
	case model.EventSelected:
		return who + " is the system peer now"
	case model.EventFalseticker:
		return who + " is a falseticker: the majority disagrees, or there is none; `timeball explain` has the numbers"
	case model.EventTruechimer:
		return who + " agrees with the majority again"
	case model.EventRouteChange:
		return who + ": its path has changed; the round trip is " + unsigned(e.Value) + " now"
	case model.EventFrequencyJump:
		return "the oscillator's frequency has changed; seen by " + who + ", off by up to " + signed(e.Value)
	}
	return clockSentence(e, source)
}

// clockSentence is the sentence of an event of the clock.
func clockSentence(e *model.Event, source string) string {
	switch e.Kind {
	case model.EventSynchronized:
		if source == "" {
			return "the clock is synchronized"
		}
		return "the clock is synchronized to " + source
	case model.EventUnsynchronized:
		if e.Text != "" {
			return "the clock is not synchronized any more: " + e.Text
		}
		return "the clock is not synchronized any more: no source is usable"
	case model.EventHoldover:
		return "no source is usable: the clock runs on at its last frequency (holdover)"
	case model.EventStep:
		return "the clock was stepped by " + signed(e.Value) + direction(e.Value, ": it was behind", ": it was ahead")
	case model.EventPanic:
		return "a correction of " + signed(e.Value) + " was refused: " + strings.TrimPrefix(e.Text, "correction refused: ")
	case model.EventClockJump:
		return join("the clock was changed by "+signed(e.Value)+" from outside", e.Text)
	case model.EventRival:
		return join("somebody else keeps setting the clock, three times in a minute now; one of the two has to go", e.Text)
	case model.EventTimeJump:
		return join("the clock is "+unsigned(e.Value)+direction(e.Value, " behind", " ahead"), e.Text)
	case model.EventLeapArmed:
		return "a leap second will be " + direction(e.Value, "inserted", "deleted") + " at the end of this UTC day"
	case model.EventLeapDone:
		return "the leap second has happened: the clock was changed by " + signed(e.Value)
	case model.EventLocal:
		return "the local clock is the reference now: no source is usable"
	case model.EventClockRefused:
		return join("the clock did not take a correction (step "+signed(e.Value)+")", e.Text)
	case model.EventLimit:
		return join("a limit is reached", e.Text)
	}
	return join(e.Kind.String(), e.Text)
}

// join adds a text, where there is one.
func join(sentence, text string) string {
	if text == "" {
		return sentence
	}
	return sentence + ": " + text
}

func direction(d time.Duration, positive, negative string) string {
	if d < 0 {
		return negative
	}
	return positive
}

// signed is a time with its sign and unit.
func signed(d time.Duration) string {
	if d < 0 {
		return "-" + unsigned(-d)
	}
	return "+" + unsigned(d)
}

// unsigned is a time in a fitting unit.
func unsigned(d time.Duration) string {
	seconds := math.Abs(d.Seconds())
	switch {
	case seconds < 1e-3:
		return fmt.Sprintf("%.1f µs", seconds*1e6)
	case seconds < 1:
		return fmt.Sprintf("%.3f ms", seconds*1e3)
	}
	return fmt.Sprintf("%.6f s", seconds)
}
