package wire_test

import (
	"bytes"
	"testing"

	"timeball/internal/wire"
)

func TestAppendFieldPads(t *testing.T) {
	for _, test := range []struct {
		name    string
		body    int
		minimum int
		want    int
	}{
		{"an empty one to the least length", 0, wire.MinField, 16},
		{"a short one to the least length", 5, wire.MinField, 16},
		{"a last one further", 5, wire.MinLastField, 28},
		{"to a multiple of four", 33, wire.MinLastField, 40},
		{"not at all when it fits", 32, wire.MinLastField, 36},
		{"one inside an authenticator only to four", 1, 0, 8},
		{"up to the longest", wire.MaxField - 4, 0, wire.MaxField},
	} {
		b := wire.AppendField([]byte("before"), 0x0104, bytes.Repeat([]byte{0xee}, test.body), test.minimum)[6:]
		if len(b) != test.want || int(b[2])<<8|int(b[3]) != test.want {
			t.Errorf("%s: got %d bytes that say %d, want %d", test.name, len(b), int(b[2])<<8|int(b[3]), test.want)
		}
		if b[0] != 0x01 || b[1] != 0x04 {
			t.Errorf("%s: got type %x, want 0104", test.name, b[:2])
		}
		if padding := bytes.Trim(b[4+test.body:], "\x00"); len(padding) > 0 {
			t.Errorf("%s: got padding %x, want zeros", test.name, padding)
		}
	}
}

func TestAppendFieldPanicsAboveTheLongest(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("got a field that its length cannot say")
		}
	}()
	wire.AppendField(nil, 1, make([]byte, wire.MaxField), 0)
}

func TestCursorWalksInOrder(t *testing.T) {
	b := packet(4, field(1, 16), field(2, 20), field(3, 28))
	var p wire.Packet
	if defect := p.Decode(b); defect != wire.DefectNone {
		t.Fatal(defect)
	}
	type step struct {
		kind  wire.FieldType
		start int
		body  int
	}
	var got []step
	c := p.Cursor()
	for c.Next() {
		got = append(got, step{c.Field.Type, c.Start, len(c.Field.Body)})
	}
	want := []step{{1, 48, 12}, {2, 64, 16}, {3, 84, 24}}
	if len(got) != len(want) || !c.Whole() {
		t.Fatalf("got %v (whole %v), want %v", got, c.Whole(), want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("field %d: got %v, want %v", i, got[i], want[i])
		}
	}
}

func TestCursorStopsAtWhatIsMalformed(t *testing.T) {
	for _, test := range []struct {
		name  string
		b     []byte
		count int
		whole bool
	}{
		{"nothing", nil, 0, true},
		{"a head cut short", []byte{1, 4}, 0, false},
		{"a length of zero", claims(0, 16), 0, false},
		{"a length beyond the end", claims(20, 16), 0, false},
		{"an uneven length", claims(7, 16), 0, false},
		{"a head alone", claims(4, 4), 1, true},
		{"one good, then a bad one", append(field(1, 16), claims(2, 4)...), 1, false},
	} {
		c, count := wire.WalkFields(test.b, 0), 0
		for c.Next() {
			count++
		}
		if count != test.count || c.Whole() != test.whole {
			t.Errorf("%s: got %d fields, whole %v; want %d, %v", test.name, count, c.Whole(), test.count, test.whole)
		}
	}
}

func FuzzWalkFields(f *testing.F) {
	f.Add(field(1, 16), 0)
	f.Add(append(field(1, 16), claims(2, 4)...), 48)
	f.Fuzz(func(t *testing.T, b []byte, base int) {
		c := wire.WalkFields(b, base)
		sum := 0
		for c.Next() {
			if c.Start != base+sum {
				t.Fatalf("got a field at %d, want %d", c.Start, base+sum)
			}
			sum += 4 + len(c.Field.Body)
		}
		if c.Whole() != (sum == len(b)) {
			t.Errorf("whole: got %v with %d bytes of %d walked", c.Whole(), sum, len(b))
		}
	})
}
