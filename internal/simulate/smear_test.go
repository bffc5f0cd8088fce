package simulate

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/smear"
)

// A client below a server that smears follows the curve, to the instant of the leap second
// and past it; the server's own clock stays true. A linear smear changes its rate by
// 11.6 ppm at once, which a client learns of after some polls: 16 s of it are 185 µs.
func TestSmearedClientsFollowTheCurve(t *testing.T) {
	const text = `
start: 2026-12-31T10:00:00.5Z
duration: 100800s
settle: 3600s
leap: {at: 2027-01-01T00:00:00Z, kind: KIND}
hosts:
  server:
    clock: {frequency: 3ppm}
    config: {sources: [{server: reference, min_poll: 4, max_poll: 4}], server: {}, clock: {leap: {file: leap-seconds.list, mode: smear, smear: {window: 24h, shape: SHAPE}}}}
  reference: {config: {local: {stratum: 1}, server: {}, clock: {leap: {file: leap-seconds.list}}}}
  client:
    clock: {offset: -10ms, frequency: 10ppm, wander: 1e-9}
    config: {sources: [{server: server, min_poll: POLL, max_poll: POLL}], clock: {leap: {mode: ignore}}}
links:
  - {between: [server, reference], delay: 100us, jitter: {distribution: exponential, mean: 10us}}
  - {between: [client, server], delay: 100us, jitter: {distribution: exponential, mean: 10us}}
`
	leap := ntptime.WallOf(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC))
	for _, test := range []struct {
		shape string
		smear smear.Smear
	}{
		{"linear", smear.Smear{Leap: leap, Window: 24 * time.Hour}},
		{"cosine", smear.Smear{Leap: leap, Window: 24 * time.Hour, Shape: smear.Cosine}},
		{"linear", smear.Smear{Leap: leap, Window: 24 * time.Hour, Delete: true}},
	} {
		if testing.Short() && test.smear.Delete {
			continue
		}
		kind := map[bool]string{false: "insert", true: "delete"}[test.smear.Delete]
		s := parse(t, strings.NewReplacer("SHAPE", test.shape, "POLL", map[string]string{"linear": "-1", "cosine": "4"}[test.shape], "KIND", kind).Replace(text))
		result, err := Run(context.Background(), s, Options{Series: true})
		if err != nil {
			t.Fatal(err)
		}
		worst, own := 0.0, 0.0
		for i := range result.Hosts {
			h := &result.Hosts[i]
			for k, e := range h.Runs[0].series {
				at := int64(k) * second
				if at < int64(s.Settle) {
					continue
				}
				leaps := leapsBy(s, at)
				want := test.smear.Offset(s.Start+ntptime.Wall(at+leaps*second), leaps != 0)
				switch h.Name {
				case "client":
					worst = math.Max(worst, math.Abs(e-want.Seconds()))
				case "server":
					own = math.Max(own, math.Abs(e))
				}
			}
		}
		t.Logf("%s, %s: client %.1f µs off the curve at most; server's own clock %.1f µs off UTC", test.shape, kind, worst*1e6, own*1e6)
		if worst > 50e-6 || worst == 0 {
			t.Errorf("%s, %s: the client was %.1f µs off the curve", test.shape, kind, worst*1e6)
		}
		if own > 100e-6 {
			t.Errorf("%s, %s: the server's own clock was %.1f µs off UTC", test.shape, kind, own*1e6)
		}
	}
}
