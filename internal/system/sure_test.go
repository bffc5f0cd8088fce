package system

import (
	"math/rand/v2"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// Three servers that tell the truth, over a path that now and then holds a packet up by
// milliseconds, as a loaded host does: an estimate of two exchanges may lie half way between
// a good one and a late one, and is no lie.
func TestRFC5905_11_2_1_NoTrueServerIsAFalsetickerAtTheStart(t *testing.T) {
	for _, known := range []ntptime.Frequency{0, ntptime.PPM} { // without and with a drift file
		accused := 0
		for seed := range uint64(30) {
			random := rand.New(rand.NewPCG(seed, 1))
			b := newBench(t, time.Duration(random.IntN(1000)-500)*time.Microsecond, func(c *Config) { c.Frequency, c.FrequencyError = known, known })
			for id := range model.SourceID(3) {
				b.add(id+1, nil)
			}
			for range 10 {
				for id := range model.SourceID(3) {
					b.exchange(id+1, late(random), late(random))
				}
				b.pass(2 * time.Second)
			}
			accused += b.saw(model.EventFalseticker)
		}
		if accused > 0 {
			t.Errorf("frequency known to %v: in 30 starts %d times a true server was called a falseticker", known, accused)
		}
	}
}

// late is the time that a packet takes: one in five is held up.
func late(random *rand.Rand) time.Duration {
	d := 80*time.Microsecond + time.Duration(random.ExpFloat64()*30e3)
	if random.IntN(5) == 0 {
		d += time.Duration(random.ExpFloat64() * 3e6)
	}
	return d
}

// exchange asks a server that tells the truth, with the time of either way.
func (b *bench) exchange(id model.SourceID, there, back time.Duration) {
	m := model.Sample{Source: id, T1: b.now(), Server: model.ServerState{Stratum: 1, Precision: -20, ReferenceID: wire.ReferenceName("x"), RootDispersion: 30 * time.Microsecond}}
	b.raw = b.raw.Add(there)
	m.T2 = b.truth()
	m.T3 = m.T2
	b.raw = b.raw.Add(back)
	m.T4 = b.now()
	st := b.status[id]
	st.Reach, st.Server, st.LastPacket = st.Reach<<1|1, m.Server, m.T4
	b.out.Reset()
	b.sys.OnSample(b.now(), &m, &b.out)
	b.act()
	b.say(id, func(*model.SourceStatus) {})
}

// A liar is one after its first exchange: a late answer of ours is no excuse for another.
func TestALiarIsFoundAtTheFirstExchange(t *testing.T) {
	b := newBench(t, 0, nil)
	for id := range model.SourceID(3) {
		b.add(id+1, nil)
	}
	b.sample(1, 10*time.Millisecond, nil)
	b.sample(2, 0, nil)
	b.sample(3, 0, nil)
	if b.saw(model.EventFalseticker) != 1 {
		t.Errorf("got %d falsetickers, want the one that is off by 10 ms", b.saw(model.EventFalseticker))
	}
}
