package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"timeball/internal/clock"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/state"
)

// stateText keeps state files in a directory.
func stateText(dir string) string {
	return fmt.Sprintf("clock: {drift_file: %s/drift, state_dir: %s, panic: 1000s, step: {threshold: 1s, updates: 3}}\n", dir, dir)
}

func writeDrift(t *testing.T, dir string, ppm float64) {
	t.Helper()
	err := state.WriteDrift(filepath.Join(dir, "drift"), state.Drift{
		Frequency: ntptime.Frequency(ppm) * ntptime.PPM, Error: 0.1 * ntptime.PPM, Written: ntptime.WallOf(time.Now()),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Threat 9: one free step a boot. A second process of the same boot refuses.
func TestThePanicGateOutlastsTheProcess(t *testing.T) {
	dir := t.TempDir()
	s := serveTime(t, "127.0.0.1", 0)
	s.offset.Store(int64(2000 * time.Second))
	first := start(t, stateText(dir)+sourceText(s.addr))
	until(t, "the free step made", func() bool { return first.said("step") == 1 && first.synchronized() })
	// Killed, not stopped: nothing is written at the end.
	second := start(t, stateText(dir)+sourceText(s.addr))
	until(t, "the second refused", func() bool { return second.said("panic") == 1 })
	until(t, "many samples more", func() bool { r := second.report(s.addr); return r != nil && r.Samples > 20 })
	if got := second.said("step"); got != 0 {
		t.Errorf("steps of the second: got %d, want 0", got)
	}
	if got := second.said("panic"); got != 1 {
		t.Errorf("lines about the panic: got %d, want 1", got)
	}
	if s := second.d.Snapshot(); s.Synchronized || s.PanicOffset == 0 {
		t.Errorf("got synchronized %v, refused %s, want neither nor none", s.Synchronized, s.PanicOffset)
	}
	if err := second.stop(); err != nil {
		t.Errorf("got %v, want that it is no reason to end", err)
	}
}

// RFC 5905 §11.3: at run, an offset beyond the limit is refused, and a reload does not help.
func TestAnOffsetBeyondThePanicLimitAtRun(t *testing.T) {
	s := serveTime(t, "127.0.0.1", 0)
	w := start(t, stateText(t.TempDir())+sourceText(s.addr))
	until(t, "synchronized", func() bool { return w.synchronized() && w.d.Snapshot().Updates > 4 })
	s.offset.Store(int64(2000 * time.Second))
	until(t, "refused", func() bool { return w.said("panic") > 0 })
	w.look((*registry).reconfigure)
	asked := s.asked.Load()
	until(t, "polls go on", func() bool { return s.asked.Load() > asked+20 })
	if now := w.clock.Now(); now.Wall.Sub(ntptime.WallOf(time.Now())) > time.Second {
		t.Errorf("the clock was moved by %s", now.Wall.Sub(ntptime.WallOf(time.Now())))
	}
}

func TestDriftIsUsedAndKept(t *testing.T) {
	dir := t.TempDir()
	writeDrift(t, dir, -12.5)
	s := serveTime(t, "127.0.0.1", 0)
	w := start(t, stateText(dir)+sourceText(s.addr), func(o *Options) {
		o.Clock = clock.NewVirtual(clock.VirtualConfig{Frequency: 12.5 * ntptime.PPM})
	})
	until(t, "synchronized", func() bool { return w.synchronized() && w.d.Snapshot().Updates > 2 })
	if got := w.d.Snapshot().Frequency.PPM(); got < -15 || got > -10 {
		t.Errorf("frequency at the start: got %.2f ppm, want about -12.5", got)
	}
	os.Remove(filepath.Join(dir, "drift"))
	w.stop()
	found, err := state.ReadDrift(filepath.Join(dir, "drift"))
	if err != nil || found.Frequency.PPM() > -8 || found.Frequency.PPM() < -17 {
		t.Errorf("written at the stop: got %v, %v, want about -12.5 ppm", found.Frequency, err)
	}
}

// Whatever stands in the drift file, one warning and a start from 0.
func TestACorruptDriftFileIsOneWarning(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "NaN": "frequency_ppm: NaN\nerror_ppm: 1\nwritten: 2026-01-01T00:00:00Z\n",
		"too fast": "frequency_ppm: -600\nerror_ppm: 1\nwritten: 2026-01-01T00:00:00Z\n",
		"binary":   "\x00\x01\xff", "huge": strings.Repeat("x", 1<<20),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "drift"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		core, log := observer.New(zap.DebugLevel)
		s := openState(settings(t, stateText(dir)), zap.New(core))
		if f, e := s.drift(); f != 0 || e != 0 {
			t.Errorf("%s: got %v ± %v, want nothing", name, f, e)
		}
		if log.Len() != 1 || strings.Contains(fmt.Sprint(log.All()[0].ContextMap()), "\n") {
			t.Errorf("%s: got %d lines, want one", name, log.Len())
		}
	}
}

func TestADriftFileThatIsADirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "drift"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := serveTime(t, "127.0.0.1", 0)
	w := start(t, stateText(dir)+sourceText(s.addr))
	until(t, "synchronized", w.synchronized)
	w.stop()
	if info, err := os.Stat(filepath.Join(dir, "drift")); err != nil || !info.IsDir() {
		t.Error("what stood there was replaced")
	}
}

// A state directory that is missing costs one warning, not the time.
func TestAMissingStateDirectory(t *testing.T) {
	s := serveTime(t, "127.0.0.1", 0)
	w := start(t, stateText("/nonexistent/timeball")+sourceText(s.addr))
	until(t, "synchronized", func() bool { return w.synchronized() && w.d.Snapshot().Updates > 2 })
	for range 5 {
		w.d.state.save(w.d.Snapshot())
	}
	if got := w.said("state not saved; time is kept all the same"); got != 1 {
		t.Errorf("got %d warnings, want 1 an hour", got)
	}
	if w.d.state.open() {
		t.Error("the gate stands open in this process although it was used")
	}
}

// Threat 38: a file that cannot be replaced stays as it is.
func TestWhatCannotBeWrittenStays(t *testing.T) {
	dir := t.TempDir()
	writeDrift(t, dir, 3)
	before, err := os.ReadFile(filepath.Join(dir, "drift"))
	if err != nil {
		t.Fatal(err)
	}
	s := openState(settings(t, stateText(dir)), zap.NewNop())
	s.driftPath = filepath.Join(dir, "drift", "below-a-file")
	s.save(&model.Snapshot{Updates: 1, FrequencyError: ntptime.PPM, At: ntptime.Instant{Wall: ntptime.WallOf(time.Now())}})
	after, err := os.ReadFile(filepath.Join(dir, "drift"))
	if err != nil || string(after) != string(before) {
		t.Errorf("got %q, %v, want %q", after, err, before)
	}
}

func TestWhatIsNotKnownIsNotSaved(t *testing.T) {
	dir := t.TempDir()
	s := openState(settings(t, stateText(dir)), zap.NewNop())
	now := ntptime.Instant{Wall: ntptime.WallOf(time.Now())}
	for name, snapshot := range map[string]*model.Snapshot{
		"no snapshot":         nil,
		"no update":           {At: now, FrequencyError: ntptime.PPM},
		"frequency not known": {At: now, Updates: 5},
		"frequency too vague": {At: now, Updates: 5, FrequencyError: 100 * ntptime.PPM},
	} {
		s.save(snapshot)
		if _, err := os.Stat(filepath.Join(dir, "drift")); err == nil {
			t.Errorf("%s: a drift file was written", name)
		}
	}
	s.save(&model.Snapshot{At: now, Updates: 5, FrequencyError: ntptime.PPM, Synchronized: true})
	for _, file := range []string{"drift", "last-time"} {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	again := openState(settings(t, stateText(dir)), zap.NewNop())
	if got := again.floor.Sub(now.Wall); got.Abs() > 2*time.Second {
		t.Errorf("last known time: got %s off", got)
	}
}

func TestAVirtualClockHasAnOpenGate(t *testing.T) {
	s := openState(settings(t, "clock: {driver: virtual}"), zap.NewNop())
	if !s.open() {
		t.Error("got a closed gate, want an open one")
	}
	s.close()
	if s.open() {
		t.Error("got an open gate after its use")
	}
}

func TestGateThatCannotBeRecordedIsAnError(t *testing.T) {
	core, logged := observer.New(zap.DebugLevel)
	directory := filepath.Join(t.TempDir(), "missing", "deeper")
	s := &stateFiles{gatePath: filepath.Join(directory, "panic-gate"), boot: "b", log: zap.New(core)}
	s.gate.Store(true)
	s.close()
	if found := logged.FilterLevelExact(zap.ErrorLevel).FilterMessageSnippet("panic gate").Len(); found != 1 {
		t.Errorf("got %d lines at ERROR about the panic gate, want 1: %v", found, logged.All())
	}
	if s.open() {
		t.Error("the gate is open, want it shut in this run at least")
	}
}
