package clockbound

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reader is a client, written from the layout alone.
type reader struct{ mem []byte }

func openReader(t *testing.T, path string, size int) *reader {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(mem) })
	return &reader{mem}
}

func (r *reader) head() (version, generation uint16) {
	word := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.mem[12])))
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], word)
	return binary.NativeEndian.Uint16(b[:]), binary.NativeEndian.Uint16(b[2:])
}

func (r *reader) long(at int) uint64 { return atomic.LoadUint64((*uint64)(unsafe.Pointer(&r.mem[at]))) }

// seen is one reading: three numbers that belong together.
type seen struct{ asOf, void, bound uint64 }

// read takes one reading that was not changed meanwhile, as clients do.
func (r *reader) read() (seen, uint16) {
	for {
		version, before := r.head()
		if before&1 != 0 || version == 0 {
			continue
		}
		s := seen{r.long(16)*1e9 + r.long(24), r.long(32)*1e9 + r.long(40), r.long(48)}
		if _, after := r.head(); after == before {
			return s, version
		}
	}
}

func TestNoReaderSeesHalfOfAChange(t *testing.T) {
	for version, size := range map[int]int{1: 72, 2: 80} {
		path := filepath.Join(t.TempDir(), "shm")
		f, err := Open(path, version)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteAt(Bound{Error: 1, Valid: 1000, Status: Synchronized}, 1)
		r := openReader(t, path, size)
		const writes = 1_000_000
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := time.Duration(1); i <= writes; i++ {
				f.WriteAt(Bound{Error: i, Valid: 1000, Status: Synchronized}, i)
			}
		}()
		reads := 0
		for running := true; running; reads++ {
			select {
			case <-done:
				running = false
			default:
			}
			s, v := r.read()
			if s.asOf != s.bound || s.void != s.asOf+1000 || int(v) != version {
				t.Fatalf("version %d: torn reading %+v", v, s)
			}
		}
		if s, _ := r.read(); s.bound != writes {
			t.Errorf("the last reading is %+v", s)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		t.Logf("version %d: %d reads beside %d writes", version, reads, writes)
	}
}

func TestLayout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shm")
	f, err := Open(path, 1)
	if err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(path); binary.NativeEndian.Uint32(data[12:]) != 0 {
		t.Error("a file that was not written yet is not void")
	}
	b := Bound{Error: 5000, Drift: 15e-6, Valid: time.Minute, Status: FreeRunning, Disruptions: 7}
	f.WriteAt(b, 3*time.Second+4)
	data, err := os.ReadFile(path)
	if err != nil || len(data) != 72 {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	u32, u64 := binary.NativeEndian.Uint32, binary.NativeEndian.Uint64
	if u32(data) != 0x414D5A4E || u32(data[4:]) != 0x43420200 || u32(data[8:]) != 72 {
		t.Errorf("head % x", data[:12])
	}
	if u64(data[16:]) != 3 || u64(data[24:]) != 4 || u64(data[32:]) != 63 || u64(data[48:]) != 5000 {
		t.Errorf("times % x", data[16:56])
	}
	if u32(data[56:]) != 15000 || u32(data[64:]) != 2 {
		t.Errorf("drift %d, status %d", u32(data[56:]), u32(data[64:]))
	}
	f.WriteAt(Bound{Status: Disrupted}, 1)
	if data, _ = os.ReadFile(path); u32(data[64:]) != 0 {
		t.Errorf("version 1 shows status %d, which it does not have", u32(data[64:]))
	}
	second := filepath.Join(t.TempDir(), "shm0")
	g, err := Open(second, 2)
	if err != nil {
		t.Fatal(err)
	}
	g.WriteAt(b, 3*time.Second)
	data, _ = os.ReadFile(second)
	if len(data) != 80 || u64(data[56:]) != 7 || u32(data[64:]) != 15000 || u32(data[68:]) != 2 || data[72] != 1 {
		t.Errorf("version 2: % x", data[56:])
	}
}

// A writer that starts again keeps the file, so that those who have it mapped see it.
func TestANewWriterKeepsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shm")
	first, err := Open(path, 2)
	if err != nil {
		t.Fatal(err)
	}
	first.WriteAt(Bound{Error: 9, Status: Synchronized}, 1)
	r := openReader(t, path, 80)
	second, err := Open(path, 2)
	if err != nil {
		t.Fatal(err)
	}
	if version, generation := r.head(); version != 0 || generation != 0 {
		t.Errorf("version %d, generation %d while the new writer has not written", version, generation)
	}
	second.WriteAt(Bound{Error: 11, Status: Synchronized}, 2)
	if s, _ := r.read(); s.bound != 11 {
		t.Errorf("the old mapping shows %+v", s)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestGenerationsSkipZero(t *testing.T) {
	f, err := Open(filepath.Join(t.TempDir(), "shm"), 1)
	if err != nil {
		t.Fatal(err)
	}
	f.generation = 0xfffe
	f.WriteAt(Bound{}, 1)
	if f.generation != 2 {
		t.Errorf("generation %d after the last one, want 2", f.generation)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "none", "shm"), 1); err == nil {
		t.Error("a folder that is not there")
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(link, 1); err == nil {
		t.Error("a link was followed")
	}
	if _, err := Open(filepath.Join(dir, "x"), 3); err == nil {
		t.Error("version 3")
	}
}
